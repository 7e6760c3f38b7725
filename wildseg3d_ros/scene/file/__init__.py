"""A scene as a file: written, read and checked."""
