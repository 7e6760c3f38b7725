"""World pointmaps of every pixel, from solved pairs.

An observation k is one pair's map x of a view in the world, ``y_k = s_k R_k x_k + t_k``.

1. :mod:`~.view_maps`: the observations of a view, and ``PixelMeans``, their robust mean at any
   pixels. A view whose observations all are one measured map is posed once instead.
2. :mod:`~.robust_mean`: ``min sum_k C_k rho(|y_k - chi| / sigma)`` with rho of Geman and McClure,
   graduated from wide to narrow, chi on its pixel's ray; sigma is the view's typical residual.
3. :mod:`~.view_surfaces`: the same on a grid, from samples that are read once; the ``surfaces``
   part refines the views on them. This ends the solve.
4. :mod:`~.fuse`: all pixels in blocks, then along their rays onto the views' common surface, by a
   field from the grid that :mod:`~.upsampling` brings to every pixel.

Steps 1 and 2 follow the array API standard: they run in the library and on the device of the
maps, or where ``alignment.device`` says. All else is NumPy on grids. ``aligner`` and
``register_view`` call this part; it calls ``surfaces`` and nothing calls back.
"""
