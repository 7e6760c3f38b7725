"""Learned evidence: which pixels of a view belong together, by a network made on random scenes."""
