"""Monitoring: whether cameras and scene are valid.

change: whether one camera sees something else; free of ROS.
diagnostics: the state of node and cameras on /diagnostics.
validity: all cameras compared with the current scene.
monitor: the timers, and the rebuild of a stale scene.
"""
