"""The robot itself, left out of what its cameras see.

Its description (:mod:`urdf`) gives simple solids (:mod:`solids`) on its links; with the poses of
the links at an image's time they say which pixels show the robot (:mod:`self_filter`).
"""
