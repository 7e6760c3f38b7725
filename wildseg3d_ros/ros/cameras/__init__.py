"""What the cameras publish, taken in: from messages to views."""
