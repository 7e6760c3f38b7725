"""What is known beforehand: camera poses, relative poses, depth. The steps in their order:

1. :class:`.pair_cameras.PairCameras`: where the pairs alone put the cameras, and how far that may
   be off, by how much the pairs of a camera differ.
2. :class:`.pose_graph.PoseGraph` holds all that is known as factors beside these cameras, and says
   which of them contradict the rest; :func:`..prior_consistency.verify` lets the others into the
   solve. Depth images are compared with their pointmaps before (:mod:`.metric_scale`).
3. :class:`.factors.Priors` are the terms of the others in the solve. A camera k of pose group g,
   at (R_k, c_k) by a pair of scale sigma_e and known as (Q_k, p_k) in its group, and a depth image
   whose points are e^l graph units per metre before the pair's scale, have the residuals

       c_k - (s R_g p_k + o_g),   log(R_k (R_g Q_k)^T),   log(sigma_e) + l - log(s).

   The groups' places (R_g, o_g) and the metric scale s are eliminated by a Schur complement.
4. :func:`.gauge.register`: after the solve, the similarity (s, R, t) that minimises the robust sum
   of ``|s R c_k + t - p_k| + s d_k angle(R R_k, Q_k)``, d_k the viewing distance, moves the world
   into the frame of the given poses.
5. ``compare_with_priors`` and ``refuse_contradictions`` of :mod:`..prior_consistency`: by how much
   the finished world differs from what was given, and when that is too much;
   :mod:`.metric_scale` says what the scale rests on.
"""
