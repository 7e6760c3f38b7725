"""The immutable snapshot that answers prompts.

1. ``scene``: :class:`scene.Scene`, made of views, alignment, pointmaps and masks.
2. ``index``: the points of each object, sorted so that an answer is a slice.
3. ``prompting``: answers prompts; ``nearest`` turns 3D points into clicks, ``similar_masks`` finds
   the object of a box or a mask, ``voxels`` thins the answer.
4. ``replaced_view``: checks before one view is replaced.
5. ``file``: a scene as a file.
"""
