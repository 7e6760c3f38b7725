"""What the node publishes, and the topics that it is clicked by."""
