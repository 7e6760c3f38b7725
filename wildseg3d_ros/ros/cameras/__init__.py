"""What the cameras publish, listened to; :mod:`wildseg3d_ros.streams` makes views of it.

camera: the subscriptions of one camera.
diagnostics: why a camera gives nothing.
rig: all cameras of the node, with their poses: a capture to build a scene from.
"""
