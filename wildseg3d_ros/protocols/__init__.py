"""Benchmarks of the field, from their authors' folders (docs/how-to/benchmarks.md).

cases: what a benchmark asks of one scene, and the score of an answer. nvos, spin_nerf: their
layouts. published: the papers' tables. wide: our own protocol, for views far apart.
"""
