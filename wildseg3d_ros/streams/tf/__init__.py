"""Poses of frames at a time. In this order:

errors: why a pose is not known.
links: the transforms that a buffer has, and the path from frame to frame.
buffer: the interface, and the poses of all frames at one time.
tree: the own implementation.
"""
