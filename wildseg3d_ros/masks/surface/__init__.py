"""The fused surface of a scene, cut into patches, and the tree of their merges.

The steps, in order; :func:`fused.fuse_patches` runs the first six, :func:`fused.segment_surface`
the next four:

1. ``observations``: every view at the working resolution, without flying pixels.
2. ``voxels``: all views fused into surface voxels with normals, and the graph of neighbours.
3. ``votes``: regions of each image, as votes on which neighbouring voxels belong together.
4. ``supervoxels``: small patches of voxels, the leaves of the tree.
5. ``supports``: planes, and the evidence that each is a support or a wall.
6. ``gaps``: links between patches that only meet in an image.
7. ``graph``: what is known of each patch and of each pair, with ``creases``, and with what other
   sources of evidence say.
8. ``merge_tree``: clusters merged best first, to the root; ``features`` are what ``model`` scores
   a pair by.
9. ``selection``: the disjoint nodes with the greatest expected IoU.
10. ``hidden_support``: a support without depth, found in the images; 7 to 9 once more with it.
11. ``objects``: which of these nodes are objects.
12. ``drawing``: the objects drawn into a view, their outlines moved to the edges of its image.

The scores are fitted on simulated scenes (``fitting/``); docs/explanation/masks.md has what they
give on others. No other source is on record for thresholds that name none.
"""
