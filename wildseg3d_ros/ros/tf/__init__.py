"""TF: poses of frames at a time, from tf2_ros where it is installed, else from an own buffer.

tf2_py is a C++ extension that is not available as a wheel. Both implementations have the same
interface, pass the same tests and word their errors alike. In this order:

errors: why a pose is not known.
links: the transforms that a buffer has, and the path from frame to frame.
buffer: the interface, and the poses of all frames at one time.
tree: the own implementation.
tf2: the one on tf2_ros.
diagnostics: what is wrong with the transforms that are published.
listener: subscribes to TF for the node, chooses the buffer, and names causes in its errors.
"""
