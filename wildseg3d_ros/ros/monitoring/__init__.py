"""Monitoring: whether cameras and scene are valid.

change: whether one camera sees something else; free of ROS.
diagnostics: the state of a camera for /diagnostics.
validity: all cameras compared with the current scene.
monitor: the timers, /diagnostics, and the rebuild of a stale scene.
"""
