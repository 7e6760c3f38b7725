"""A scene as a file (docs/reference/scenes.md).

1. ``snapshot``: :func:`snapshot.save_scene` and :func:`snapshot.load_scene`.
2. ``archive``: arrays as members of the zip file; ``mask_archive``: the mask cache.
3. ``consistency`` checks a scene as a whole and ``mask_checks`` its masks, before it is written
   and after it is read; ``checks`` has what both are made of.
"""
