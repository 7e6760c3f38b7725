"""Builds of scenes: the action, and the process that calculates."""
