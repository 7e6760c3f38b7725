"""A small EfficientLoFTR with random weights, as transformers saves it."""

from __future__ import annotations

from pathlib import Path

import torch


def write_small_matcher(folder: Path, seed: int = 0) -> Path:
    """Writes a network whose coarse features tell places apart, and returns the folder."""
    from transformers import EfficientLoFTRConfig, EfficientLoFTRForKeypointMatching

    torch.manual_seed(seed)
    config = EfficientLoFTRConfig(
        stage_num_blocks=[1, 1, 1, 1],
        out_features=[16, 16, 32, 64],
        hidden_size=64,
        num_attention_layers=1,
        initializer_range=0.5,
        coarse_matching_threshold=0.0,
        coarse_matching_temperature=1e-2,
    )
    EfficientLoFTRForKeypointMatching(config).save_pretrained(folder)
    return folder
