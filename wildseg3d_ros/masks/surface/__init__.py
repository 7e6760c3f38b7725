"""The fused surface of a scene and its segmentation."""
