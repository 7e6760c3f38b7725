"""TF for the node: from tf2_ros where it is installed, else :mod:`wildseg3d_ros.streams.tf`.

tf2_py is a C++ extension that is not available as a wheel. Both implementations have the same
interface, pass the same tests and word their errors alike. In this order:

tf2: the one on tf2_ros.
diagnostics: what is wrong with the transforms that are published.
listener: subscribes to TF for the node, chooses the buffer, and names causes in its errors.
"""
