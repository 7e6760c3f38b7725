"""World pointmaps at full resolution."""
