"""Camera poses and intrinsics from the solved pairs. The steps in their order:

1. :func:`.resection.observe` gathers what the solve says about each view: its world points chi_i
   with confidences w_i, and the poses (R_k, c_k) of its camera by the pairs that have its map in
   the camera's own frame.
2. :meth:`.resection.Observed.mean_pose` averages these: ``min_c sum_k w_k |c_k - c|`` (Weiszfeld)
   and ``min_R sum_k w_k |R_k - R|_F^2`` (chordal mean).
3. :mod:`.intrinsics`: unknown focal lengths, and given ones that the pointmaps contradict, become
   ``min_f sum_i w_i |u_i - u_0 - f (x_i, y_i) / z_i|``.
4. :func:`.resection.solve_cameras` decides for each view what else is done. A measured map is laid
   onto the world points, ``min_T sum_i w_i |T x_i - chi_i|``. Cameras of given intrinsics go a
   third of the way to the least reprojection error, ``min_T sum_i w_i rho(|pi(K T chi_i) - u_i|)``
   with a Cauchy loss (:func:`.reprojection.refine_cameras`, all views at once).
5. :func:`.resection.resect` finds a camera that no pair gives a pose for: perspective-n-point in
   RANSAC, then the least reprojection error.
"""
