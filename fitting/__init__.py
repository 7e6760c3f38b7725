"""Fits the learned scores of the geometric masks on random simulated scenes.

``make fit`` or ``python -m fitting``: records scenes, fuses each as a build does, lets patches
merge, and fits two small networks to the merges and nodes that come up: is this pair one object,
and how well does this node agree with the thing that a click on it means? Scenes are kept under
``out/fitting``, so that a run that was stopped goes on where it was. Seeds below 9000 are for
fitting; benchmarks judge on those above.
"""
