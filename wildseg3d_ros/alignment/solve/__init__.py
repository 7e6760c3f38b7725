"""The robust solve over the similarities of all pairs. The steps in their order:

With W_i the weights of the points x_i^{v,e} that pair e has of view v, and (sigma_e, R_e, t_e) its
similarity to the world, the cost is

    sum_e sum_v sum_i W_i rho(|chi_i^v - (sigma_e R_e x_i^{v,e} + t_e)|)

(WildSeg3D's dynamic global alignment, with a robust loss rho) over the similarities and the world
points chi.

1. :func:`.robust.solve_pairs` solves until the verdict on all pairs stands:
   :func:`.outliers.judge` leaves out pairs whose error is no longer typical, and takes them back.
2. :func:`.gauss_newton.solve` is one of these solves. A pass takes chi as the weighted means of
   the pairs' points and weights ``w = W rho'(r) / r`` by their residuals r.
3. :class:`.moments.Observations`: with chi eliminated, the cost is a quadratic form of the 3x4
   transforms T_e; its matrix is made of 4x4 second moments ``sum_i w x~ x~^T`` and
   ``sum_i (w_e w_f / wbar) x~_e x~_f^T``, x~ = [x; 1].
4. :class:`.normal_equations.System`: ``H xi = -g`` for steps ``xi_e`` of 7 unknowns (rotation,
   translation, log scale) by conjugate gradients, preconditioned with the problem whose world
   points move affinely by view.
5. What the answer is worth: :mod:`.residuals` (reprojection errors, limits), :mod:`.observability`
   (condition, degenerate points), :mod:`.connectivity` (pairs and views that nothing checks).
"""
