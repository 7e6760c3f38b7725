"""Builds of scenes: the action, and the process that computes them.

ipc: the IPC transport of arrays between the two processes.
scene_masks: which mask back end changes a scene.
process: the build process; free of ROS.
worker: the node's side of it.
overall: how far a build or an edit is as a whole.
goals: actions, with feedback, cancellation and errors as results.
action: the action ``build_scene``.
extending: the action ``edit_object``, and ``undo``.
"""
