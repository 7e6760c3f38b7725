"""Constructed scenes with exact truth, and back ends that answer from it."""
