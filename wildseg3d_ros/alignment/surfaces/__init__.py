"""Surfaces that several views see, and the joint refinement of the views on them."""
