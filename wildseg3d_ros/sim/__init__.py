"""Simulated robot cell: RGB-D recordings with exact truth, rendered by MuJoCo without a display.

MuJoCo is needed to generate a recording, never to use one; ``python -m wildseg3d_ros.sim --help``
tells how. :mod:`wildseg3d_ros.sim.random_scene` makes any number of random scenes by their seeds.
:mod:`wildseg3d_ros.sim.noise` and :mod:`~wildseg3d_ros.sim.cameras` need NumPy alone.
"""
