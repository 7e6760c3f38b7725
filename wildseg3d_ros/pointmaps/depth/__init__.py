"""Pointmaps of calibrated RGB-D cameras.

1. `noise`: each view's depth gets a confidence from a noise model and its local planes.
2. `registration`: the relative pose of each pair, from given poses or features, and dense depth.
3. `backend`: views in, pair predictions out; pairs without overlap are left out.

Settings are in `config`.
"""
