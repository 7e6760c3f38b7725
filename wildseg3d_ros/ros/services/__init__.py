"""Requests about the current scene, answered.

prompt_reader: prompts in messages -> prompts of the core.
segment: the current scene, and the reply to ``segment``.
objects: ``list_objects``, ``save_scene`` and ``load_scene``.
"""
