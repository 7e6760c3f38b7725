"""One id per object over all views, from the masks of each view.

``associate`` is the list of these steps; each has a file of its own:

1. ``inputs``: what was given is checked.
2. ``nodes``: the masks of all views become nodes, in mask layers where they are nested.
3. ``overlap``: masks are lifted by the pointmaps into the other views and compared there.
4. ``tracks``: masks that a video model followed are compared; how reliable tracks are is learned.
5. ``evidence``: affinity and support of any two masks, the sum of both sources.
6. ``grouping``: the partition of the masks with the most evidence, at most one mask of a view in
   each group.
7. ``opposite``: groups that are two sides of one body are joined.
8. ``levels``: which group is a part of which, and which masks are under-segmented.
9. ``repair``: fragments go to their objects, under-segmented masks are divided among theirs.
10. ``visibility``: which views see an object, with a mask or without one.

Thresholds without another source were chosen on seeds 0 to 19 of ``benchmarks/association.py``;
docs/explanation/masks.md has what they give there and on other scenes.
"""

from wildseg3d_ros.masks.association.associate import Association, associate
from wildseg3d_ros.masks.association.tracks import Tracks
from wildseg3d_ros.masks.association.visibility import ObjectVisibility, unmasked_views

__all__ = ["Association", "ObjectVisibility", "Tracks", "associate", "unmasked_views"]
