"""Depth Anything 3 (Lin et al., 2025, arXiv 2511.10647): depth of all views at once.

1. `images`: each image at a size for the network, and maps brought back to its pixels.
2. `network`: `backbone` (DINOv2 whose layers look at one view and at all views in turn), `heads`
   (depth, its confidence, rays) and `cameras` (poses and fields of view, given or found).
3. `scale`: the one scale that brings the network's depth to the metres of given poses.
4. `noise`: what the network's confidence means.
5. `backend`: views in, pair predictions out.

Settings are in `config`, `checkpoint` and `files` load the weights. See docs/how-to/da3.md.
"""
