"""What the cameras publish: from messages to views.

frames: image, depth and calibration that belong together, and sets of one time.
camera: the subscriptions of one camera, and the conversion of its messages.
diagnostics: why a camera gives nothing.
rig: all cameras of the node, with their poses: a capture to build a scene from.
"""
