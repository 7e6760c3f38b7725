"""Poses of frames at a time."""
