"""MASt3R (Leroy et al., ECCV 2024, arXiv 2406.09756): pointmaps of pairs of plain RGB images.

The inference network is the project's own and loads the published checkpoint. torch is imported by
the modules below, never by this one.
"""
