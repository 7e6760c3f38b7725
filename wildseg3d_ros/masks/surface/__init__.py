"""The fused surface of a scene, cut into parts. Geometric masks and region growing use it.

The steps, in order; :func:`fused.fuse_surface` runs the first eight:

1. ``observations``: every view at the working resolution, without flying pixels.
2. ``voxels``: all views fused into surface voxels with normals, and the graph of neighbours.
3. ``votes``: regions of each image, as votes on which neighbouring voxels belong together.
4. ``supervoxels``: small patches of voxels that are never cut again.
5. ``supports``: planes, and the evidence that each is a support or a wall.
6. ``gaps``: links between patches that only meet in an image.
7. ``affinities`` and ``clustering``: log-odds of touching patches, merged best first.
8. ``hidden_support``: a support without depth, found in the images; step 7 once more with it.
9. ``objects``: which clusters are objects, background, or too small to say.
10. ``drawing``: the objects drawn into a view, their outlines moved to the edges of its image.

The weights of the cues were set on several recordings at once: a shelf, a simulated table and
single views of real tables. No other source is on record for thresholds that name none;
docs/masks.md has what all of them give on scenes that nothing was chosen on.
"""
