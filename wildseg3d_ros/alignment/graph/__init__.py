"""Pairs as a graph: sampled points, their weights, and where the solve starts."""
