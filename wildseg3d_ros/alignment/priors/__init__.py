"""What is known beforehand: camera poses, relative poses, depth; and how it is checked."""
