"""Requests about the current scene, answered.

prompt_reader: prompts in messages -> prompts of the core.
current: the scene that answers, and the frame and time of a reply.
lookup, describe: ``segment`` and ``describe_object``.
objects: ``list_objects``, ``save_scene`` and ``load_scene``.
"""
