"""The ROS layer: one folder per floor; each imports only itself and the floors before it.

guard, memory, qos, lifecycle, running, parameters: what every node needs, free of this project's
    messages but for the status of replies.
messages: between messages and arrays, both ways.
tf: poses of frames at a time.
cameras: what the cameras publish, as views.
services: questions about the current scene, answered.
building: the action that builds scenes, and the process that computes them.
topics, monitoring: what the node publishes and is clicked by; whether cameras and scene are valid.
scene_node, replay_node, client: the node, a recording in place of cameras, and a user's side.
"""
