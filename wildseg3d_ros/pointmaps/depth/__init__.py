"""Pointmaps of calibrated RGB-D cameras."""
