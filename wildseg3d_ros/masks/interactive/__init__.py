"""Objects that are added, refined or recovered after a scene was built."""
