"""Pointmaps of RGB cameras with known intrinsics and poses."""
