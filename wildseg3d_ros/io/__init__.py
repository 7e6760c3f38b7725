"""Image folders, point clouds and pictures on disk."""
