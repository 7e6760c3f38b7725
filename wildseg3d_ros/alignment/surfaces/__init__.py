"""Surfaces that several views see, and where they must agree.

A view's surface is a grid of some thousand of its points: errors that matter are smooth. Two
views of one surface may lie apart, by the error of their poses and by what all pairs of a view
have in common. A point p of view v that is projected into view u shows both: its signed distance
``n . (p - q)`` from the point q, with normal n, that u sees there.

1. :func:`~.correspondences.find_correspondences`: such (p, q, n) of all views and their
   neighbours, with weights that fade towards every gate (distance, normals, grazing sight).
2. :func:`~.joint_refinement.refine_jointly`: rigid motions T of all views that minimise
   ``sum w rho(n . (T_v p - T_u q)) + |T_v p - p|^2 / sigma_v^2 + known poses`` (Gauss-Newton,
   Cauchy loss; the prior is a :class:`~.joint_refinement.MotionPrior`). The solve ends with it.
3. :func:`~.joint_refinement.average_along_rays`: each point to the robust mean, on its pixel's
   ray, of the surfaces there. Fusion ends with it.

Everything here is NumPy on grids. ``fusion`` makes the surfaces and calls this part; nothing here
imports it.
"""
