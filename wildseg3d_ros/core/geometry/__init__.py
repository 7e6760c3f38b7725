"""Rigid transforms, pinhole cameras and similarities, in NumPy."""
