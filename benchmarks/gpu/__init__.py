"""What a GPU changes, each figure beside the floor that its work takes at the measured rates.

``python -m benchmarks.gpu`` (``make bench-gpu`` on a machine with PyTorch and nothing of ours but
the checkout; docs/how-to/gpu.md). ``measuring`` times, counts operations and measures the
machine's rates; ``networks``, ``masks`` and ``scenes`` are the parts; ``table`` writes them down.
"""
