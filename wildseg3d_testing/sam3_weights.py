"""A small SAM 3 with random weights, and its tokenizer, as transformers saves them."""

from __future__ import annotations

import json
from pathlib import Path

import torch

SIDE = 56
"""Edge of the network's input [px]."""


def write_small_sam3(folder: Path, seed: int = 0) -> Path:
    """Writes the image model, which reads text, and returns the folder."""
    from transformers import Sam3Config, Sam3Model

    torch.manual_seed(seed)
    small = {"hidden_size": 32, "num_attention_heads": 2, "intermediate_size": 32}
    backbone = small | {
        "model_type": "sam3_vit_model",
        "num_hidden_layers": 2,
        "image_size": SIDE,
        "pretrain_image_size": SIDE,
        "window_size": 2,
        "global_attn_indexes": [1],
    }
    config = Sam3Config(
        vision_config={
            "model_type": "sam3_vision_model",
            "backbone_config": backbone,
            "fpn_hidden_size": 32,
            "backbone_feature_sizes": [[16, 16], [8, 8], [4, 4]],
        },
        text_config=small
        | {
            "model_type": "clip_text_model",
            "num_hidden_layers": 1,
            "vocab_size": 64,
            "projection_dim": 16,
            "max_position_embeddings": 32,
            "bos_token_id": 0,
            "eos_token_id": 1,
            "pad_token_id": 1,
        },
        geometry_encoder_config=small | {"num_layers": 1},
        detr_encoder_config=small | {"num_layers": 1},
        detr_decoder_config=small | {"num_layers": 1, "num_queries": 5},
        mask_decoder_config={"hidden_size": 32, "num_attention_heads": 2},
        initializer_range=0.2,
    )
    Sam3Model(config).save_pretrained(folder)
    _write_tokenizer(folder)
    return folder


def _write_tokenizer(folder: Path) -> None:
    """One of letters, in the layout of CLIP's."""
    from transformers import CLIPTokenizer

    letters = [chr(code) for code in range(ord("a"), ord("z") + 1)]
    tokens = ["<|startoftext|>", "<|endoftext|>", *letters, *(f"{each}</w>" for each in letters)]
    names = {"vocab": folder / "vocab.json", "merges": folder / "merges.txt"}
    names["vocab"].write_text(json.dumps({token: k for k, token in enumerate(tokens)}))
    names["merges"].write_text("#version: 0.2\n")
    CLIPTokenizer(str(names["vocab"]), str(names["merges"])).save_pretrained(folder)
