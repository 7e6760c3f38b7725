"""Small SAM 2 and EdgeTAM of the real architectures with random weights, and what they say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

EDGE = 128
"""Edge of its input [px]; the published models take 1024."""


def write_small_sam2(folder: Path, seed: int = 0) -> Path:
    """Writes a model of 1.1 million random parameters in the layout of the published ones.

    Random decoders return logits near 0, all alike. Here the last layers are scaled until masks
    have outlines that depend on image and point, so that what comes after has work to do.
    """
    import torch
    from transformers import Sam2VideoConfig, Sam2VideoModel

    torch.manual_seed(seed)
    cells = EDGE // 16
    backbone = {
        "model_type": "sam2_hiera_det_model",
        "hidden_size": 16,
        "image_size": [EDGE, EDGE],
        "window_positional_embedding_background_size": [4, 4],
        "blocks_per_stage": [1, 1, 2, 1],
        "embed_dim_per_stage": [16, 32, 64, 128],
        "num_attention_heads_per_stage": [1, 1, 2, 2],
        "window_size_per_stage": [4, 4, 4, 4],
        "global_attention_blocks": [3],
    }
    config = Sam2VideoConfig(
        vision_config={
            "model_type": "sam2_vision_model",
            "backbone_config": backbone,
            "backbone_channel_list": [128, 64, 32, 16],
            "backbone_feature_sizes": [[4 * cells] * 2, [2 * cells] * 2, [cells] * 2],
            "fpn_hidden_size": 128,
        },
        prompt_encoder_config={
            "hidden_size": 128,
            "image_size": EDGE,
            "patch_size": 16,
            "mask_input_channels": 4,
        },
        mask_decoder_config={
            "hidden_size": 128,
            "mlp_dim": 32,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "iou_head_hidden_dim": 32,
        },
        image_size=EDGE,
        memory_attention_hidden_size=128,
        memory_attention_num_layers=1,
        memory_attention_num_attention_heads=1,
        memory_attention_feed_forward_hidden_size=32,
        memory_attention_rope_feat_sizes=[cells, cells],
        memory_encoder_hidden_size=128,
        memory_encoder_output_channels=64,
        memory_fuser_embed_dim=128,
        memory_fuser_intermediate_dim=32,
        memory_fuser_num_layers=1,
        mask_downsampler_embed_dim=128,
    )
    return _write(Sam2VideoModel(config), folder)


def write_small_edgetam(folder: Path, seed: int = 0) -> Path:
    """The same of EdgeTAM, whose encoder is one of timm's.

    Raises:
        ImportError: timm, or the torchvision that it needs, is not installed.
    """
    import torch
    from transformers import EdgeTamVideoConfig, EdgeTamVideoModel

    torch.manual_seed(seed)
    cells = EDGE // 16
    config = EdgeTamVideoConfig(
        vision_config={
            "model_type": "edgetam_vision_model",
            "backbone_config": {
                "model_type": "timm_wrapper",
                "architecture": "repvit_m1",
                "num_classes": 2,
                "model_args": {"in_chans": 3, "features_only": True, "out_indices": [0, 1, 2, 3]},
            },
            "backbone_feature_sizes": [[4 * cells] * 2, [2 * cells] * 2, [cells] * 2],
        },
        prompt_encoder_config={"image_size": EDGE},
        image_size=EDGE,
        memory_attention_rope_feat_sizes=[cells, cells],
        memory_attention_rope_k_sizes=[cells // 2, cells // 2],
        perceiver_resampler_num_latents=16,
        perceiver_resampler_num_latents_2d=cells * cells // 4,
    )
    return _write(EdgeTamVideoModel(config), folder)


def _write(model: Any, folder: Path) -> Path:
    import torch

    model.eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim > 1 and "memory" not in name and "timm" not in name:
                parameter *= 6.0
            if "output_hypernetworks_mlps" in name and name.endswith("proj_out.weight"):
                parameter *= 40.0
        model.mask_decoder.pred_obj_score_head.proj_out.bias.fill_(30.0)
    model.save_pretrained(folder)
    return folder


def followed_alone(
    model: Any, session: Any, mask: NDArray[np.bool_], size: tuple[int, int]
) -> dict[int, NDArray[np.float32]]:
    """Logits (H, W) by frame of one object, by the published class's own iterator.

    Args:
        model: of transformers; session: a fresh one of its kind, with all frames in it.
        mask: (H, W) of the object in frame 1, from which it is followed both ways.
        size: (H, W) of the logits.
    """
    import torch

    resized = torch.nn.functional.interpolate
    given = resized(
        torch.tensor(mask)[None, None].float(), (EDGE, EDGE), mode="bilinear", antialias=True
    )
    session.add_mask_inputs(session.obj_id_to_idx(1), 1, (given >= 0.5).float())
    session.obj_with_new_inputs.append(1)
    found = {}
    for reverse in (False, True):
        for out in model.propagate_in_video_iterator(session, start_frame_idx=1, reverse=reverse):
            full = resized(out.pred_masks.float(), size, mode="bilinear")
            found[out.frame_idx] = full[0, 0].numpy()
    return found
