"""Between ROS messages and arrays; nothing here holds a state."""
