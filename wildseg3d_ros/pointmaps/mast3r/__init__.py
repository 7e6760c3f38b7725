"""MASt3R (Leroy et al., ECCV 2024, arXiv 2406.09756): pointmaps of pairs of plain RGB images.

The inference network is the project's own and loads the published checkpoint.

1. `files`, `checkpoint`: finds and opens weights, builds the network that they are for.
2. `images`: images resized and cropped for the network, and maps brought back to their pixels.
3. `network`, `attention`, `heads`: the encoder, two decoders that read each other, the heads.
4. `inference`: every image encoded once, pairs decoded in batches that fit into memory.
5. `matching`: reciprocal matches of the descriptors.
6. `backend`: views in, pair predictions out; pairs of low confidence are left out.

Settings are in `config`. torch is imported by these modules, never by this one.
"""
