"""Default object masks from the fused RGB-D cloud."""
