"""Pairs as a graph: sampled points, their weights, and where the solve starts. In order:

1. :class:`.sampling.Samples` reads a regular grid of pixels of every view from all its pairs'
   maps (:mod:`.pair_maps`): points x, confidences C, and by what a map is moved into its pair's
   frame.
2. :func:`.sampling.weigh` makes the :class:`.graph.Graph` of them. The weights W follow one of
   :mod:`.weights`' rules, from C, soft masks S and matches (:mod:`.matching`), and fall with the
   cube of the distance beyond four times the typical one; every pair is scaled to a size near 1.
3. :func:`.initialization.initialize`: a maximum spanning tree of pairs, the strongest first; where
   three or more pairs say where a view is, the pose that most agree with is taken. A pair's
   similarity to the world points of its views is the robust Umeyama fit ``min sum_i w_i rho(|y_i -
   (s R x_i + t)|)`` of :mod:`.similarities`. A later solve starts from the one before
   (:func:`.initialization.continue_from`).
"""
