"""Poses and intrinsics of the cameras from the solved points."""
