"""A small SAM 3 with random weights, and its tokenizer, as transformers saves them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

from wildseg3d_testing.sam2_weights import with_outlines

SIDE = 56
"""Edge of the network's input [px]."""


def write_small_sam3(folder: Path, seed: int = 0) -> Path:
    """Writes the image model, which reads text, and returns the folder."""
    from transformers import Sam3Config, Sam3Model

    torch.manual_seed(seed)
    Sam3Model(Sam3Config(**_sizes(32))).save_pretrained(folder)
    _write_tokenizer(folder)
    return folder


def write_small_sam3_video(folder: Path, seed: int = 0) -> Path:
    """Writes what SAM 3 is published as, which also has the tracker; without the tokenizer."""
    from transformers import Sam3VideoConfig, Sam3VideoModel

    torch.manual_seed(seed)
    sizes = _sizes(128)  # an object's pointer is split into pieces of the memory's 64
    tracker = {
        "model_type": "sam3_tracker_video",
        "vision_config": sizes["vision_config"],
        "prompt_encoder_config": {
            "hidden_size": 128,
            "image_size": SIDE,
            "patch_size": 14,
            "mask_input_channels": 4,
        },
        "mask_decoder_config": {
            "hidden_size": 128,
            "mlp_dim": 32,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "iou_head_hidden_dim": 32,
        },
        "image_size": SIDE,
        "memory_attention_hidden_size": 128,
        "memory_attention_num_layers": 1,
        "memory_attention_feed_forward_hidden_size": 32,
        "memory_encoder_hidden_size": 128,
        "memory_encoder_output_channels": 64,
        "memory_fuser_embed_dim": 128,
        "memory_fuser_intermediate_dim": 32,
        "memory_fuser_num_layers": 1,
        "mask_downsampler_embed_dim": 128,
    }
    config = Sam3VideoConfig(
        detector_config={"model_type": "sam3", **sizes}, tracker_config=tracker
    )
    model = Sam3VideoModel(config).eval()
    with_outlines(model.tracker_model)
    model.save_pretrained(folder)
    return folder


def _sizes(width: int) -> dict[str, Any]:
    small = {"hidden_size": width, "num_attention_heads": 2, "intermediate_size": 32}
    backbone = small | {
        "model_type": "sam3_vit_model",
        "num_hidden_layers": 2,
        "image_size": SIDE,
        "pretrain_image_size": SIDE,
        "window_size": 2,
        "global_attn_indexes": [1],
    }
    return {
        "vision_config": {
            "model_type": "sam3_vision_model",
            "backbone_config": backbone,
            "fpn_hidden_size": width,
            "backbone_feature_sizes": [[16, 16], [8, 8], [4, 4]],
        },
        "text_config": small
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
        "geometry_encoder_config": small | {"num_layers": 1},
        "detr_encoder_config": small | {"num_layers": 1},
        "detr_decoder_config": small | {"num_layers": 1, "num_queries": 5},
        "mask_decoder_config": {"hidden_size": width, "num_attention_heads": 2},
        "initializer_range": 0.2,
    }


def _write_tokenizer(folder: Path) -> None:
    """One of letters, in the layout of CLIP's."""
    from transformers import CLIPTokenizer

    letters = [chr(code) for code in range(ord("a"), ord("z") + 1)]
    tokens = ["<|startoftext|>", "<|endoftext|>", *letters, *(f"{each}</w>" for each in letters)]
    names = {"vocab": folder / "vocab.json", "merges": folder / "merges.txt"}
    names["vocab"].write_text(json.dumps({token: k for k, token in enumerate(tokens)}))
    names["merges"].write_text("#version: 0.2\n")
    CLIPTokenizer(str(names["vocab"]), str(names["merges"])).save_pretrained(folder)
