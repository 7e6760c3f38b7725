"""Numbers of the original SAM 2 code for a small model, which tests compare ours with.

    python -m benchmarks.sam2_golden test/core/data/sam2_golden.npz

Needs an environment of its own, with the PyPI package ``sam2`` 1.1.0 (``--no-deps``, on top of
hydra-core, iopath and a torchvision that fits the installed torch): it is not among what this
project stands on. Weights, images and the mask are those of the rules in
``wildseg3d_testing/sam2_weights.py``; nothing is downloaded.
"""

from __future__ import annotations

import re
import sys
from typing import Any

import numpy as np

from wildseg3d_ros.core.files.writing import write_npz
from wildseg3d_testing.sam2_weights import (
    EDGE,
    images_by_rule,
    mask_by_rule,
    sam2_weight_by_rule,
)

_NAMES = [
    (r"^image_encoder\.trunk\.", "vision_encoder.backbone."),
    (r"^image_encoder\.neck\.convs\.(\d)\.conv", r"vision_encoder.neck.convs.\1"),
    (r"patch_embed\.proj\.", "patch_embed.projection."),
    (r"^maskmem_tpos_enc", "memory_temporal_positional_encoding"),
    (r"^no_mem_embed", "no_memory_embedding"),
    (r"^no_mem_pos_enc", "no_memory_positional_encoding"),
    (r"^no_obj_embed_spatial", "occlusion_spatial_embedding_parameter"),
    (r"^no_obj_ptr", "no_object_pointer"),
    (r"^obj_ptr_tpos_proj", "temporal_positional_encoding_projection_layer"),
    (r"^obj_ptr_proj", "object_pointer_proj"),
    (r"memory_encoder\.pix_feat_proj", "memory_encoder.feature_projection"),
    (r"memory_encoder\.out_proj", "memory_encoder.projection"),
    (r"memory_encoder\.fuser", "memory_encoder.memory_fuser"),
    (r"dwconv", "depthwise_conv"),
    (r"pwconv", "pointwise_conv"),
    (r"gamma", "scale"),
    (r"^sam_prompt_encoder\.pe_layer\.positional_encoding_gaussian_matrix",
     "shared_image_embedding.positional_embedding"),
    (r"^sam_prompt_encoder\.mask_downscaling\.0", "prompt_encoder.mask_embed.conv1"),
    (r"^sam_prompt_encoder\.mask_downscaling\.1", "prompt_encoder.mask_embed.layer_norm1"),
    (r"^sam_prompt_encoder\.mask_downscaling\.3", "prompt_encoder.mask_embed.conv2"),
    (r"^sam_prompt_encoder\.mask_downscaling\.4", "prompt_encoder.mask_embed.layer_norm2"),
    (r"^sam_prompt_encoder\.mask_downscaling\.6", "prompt_encoder.mask_embed.conv3"),
    (r"^sam_prompt_encoder", "prompt_encoder"),
    (r"^sam_mask_decoder\.output_upscaling\.0", "mask_decoder.upscale_conv1"),
    (r"^sam_mask_decoder\.output_upscaling\.1", "mask_decoder.upscale_layer_norm"),
    (r"^sam_mask_decoder\.output_upscaling\.3", "mask_decoder.upscale_conv2"),
    (r"^sam_mask_decoder", "mask_decoder"),
    (r"norm_final_attn", "layer_norm_final_attn"),
    (r"attn\.out_proj|(token|image)\.out_proj", lambda m: m[0].replace("out_proj", "o_proj")),
    (r"\.norm(\d?)\.", r".layer_norm\1."),
]  # fmt: skip
"""From the original's names to those of transformers, in this order."""


def _name(original: str) -> str:
    name = original
    for pattern, replacement in _NAMES:
        name = re.sub(pattern, replacement, name)
    # Perceptrons of two layers (blocks) and of three (heads).
    last = 1 if ".mlp." in name else 2
    if re.search(r"mlp\.|mlps\.|_head\.|pointer_proj", name):
        name = re.sub(rf"\.layers\.{last}\.(?=\w+$)", ".proj_out.", name)
        name = re.sub(r"\.layers\.0\.(?=\w+$)", ".proj_in.", name)
        name = re.sub(r"\.layers\.1\.(?=\w+$)", ".layers.0.", name)
    downsampler = re.search(r"mask_downsampler\.encoder\.(\d+)\.", name)
    if downsampler:
        layer, part = divmod(int(downsampler[1]), 3)
        place = "final_conv" if layer == 4 else f"layers.{layer}.{('conv', 'layer_norm')[part]}"
        name = name.replace(f"encoder.{downsampler[1]}", place)
    return name


def _weights(model: Any) -> dict[str, Any]:
    import torch

    state = {}
    for key, value in model.state_dict().items():
        point = re.match(r"sam_prompt_encoder\.point_embeddings\.(\d)\.weight", key)
        if point:
            table = sam2_weight_by_rule("prompt_encoder.point_embed.weight", (4, value.shape[1]))
            made = table[int(point[1])][None]
        else:
            made = sam2_weight_by_rule(_name(key), tuple(value.shape))
        state[key] = torch.from_numpy(made)
    return state


def _model() -> Any:
    """The original video predictor with the post-processing of its own builder."""
    from sam2.modeling.backbones.hieradet import Hiera
    from sam2.modeling.backbones.image_encoder import FpnNeck, ImageEncoder
    from sam2.modeling.memory_attention import MemoryAttention, MemoryAttentionLayer
    from sam2.modeling.memory_encoder import CXBlock, Fuser, MaskDownSampler, MemoryEncoder
    from sam2.modeling.position_encoding import PositionEmbeddingSine
    from sam2.modeling.sam.transformer import RoPEAttention
    from sam2.sam2_video_predictor import SAM2VideoPredictor

    cells = [EDGE // 16, EDGE // 16]
    rotary = {"rope_theta": 10000.0, "feat_sizes": cells, "embedding_dim": 128, "num_heads": 1}
    trunk = Hiera(
        embed_dim=16,
        num_heads=1,
        head_mul=2.0,
        stages=(1, 1, 2, 1),
        window_spec=(4, 4, 4, 4),
        global_att_blocks=(3,),
        window_pos_embed_bkg_spatial_size=(4, 4),
    )
    # The published models double the heads at each stage; the small one has 1, 1, 2, 2.
    for block, heads in zip(trunk.blocks, (1, 1, 2, 2, 2), strict=True):
        block.attn.num_heads = heads
    neck = FpnNeck(
        PositionEmbeddingSine(128, normalize=True),
        d_model=128,
        backbone_channel_list=[128, 64, 32, 16],
        fpn_top_down_levels=[2, 3],
        fpn_interp_model="nearest",
    )
    layer = MemoryAttentionLayer(
        activation="relu",
        cross_attention=RoPEAttention(rope_k_repeat=True, kv_in_dim=64, **rotary),
        self_attention=RoPEAttention(**rotary),
        d_model=128,
        dim_feedforward=32,
        dropout=0.1,
        pos_enc_at_attn=False,
        pos_enc_at_cross_attn_keys=True,
        pos_enc_at_cross_attn_queries=False,
    )
    memory = MemoryEncoder(
        out_dim=64,
        mask_downsampler=MaskDownSampler(128, kernel_size=3, stride=2, padding=1),
        fuser=Fuser(CXBlock(128, kernel_size=7, padding=3), num_layers=1),
        position_encoding=PositionEmbeddingSine(64, normalize=True),
        in_dim=128,
    )
    stable = {
        "dynamic_multimask_via_stability": True,
        "dynamic_multimask_stability_delta": 0.05,
        "dynamic_multimask_stability_thresh": 0.98,
    }
    model = SAM2VideoPredictor(
        image_encoder=ImageEncoder(trunk, neck, scalp=1),
        memory_attention=MemoryAttention(128, True, layer, num_layers=1),
        memory_encoder=memory,
        image_size=EDGE,
        sigmoid_scale_for_mem_enc=20.0,
        sigmoid_bias_for_mem_enc=-10.0,
        binarize_mask_from_pts_for_mem_enc=True,
        use_mask_input_as_output_without_sam=True,
        directly_add_no_mem_embed=True,
        no_obj_embed_spatial=True,
        use_high_res_features_in_sam=True,
        multimask_output_in_sam=True,
        iou_prediction_use_sigmoid=True,
        use_obj_ptrs_in_encoder=True,
        proj_tpos_enc_in_obj_ptrs=True,
        use_signed_tpos_enc_to_obj_ptrs=True,
        only_obj_ptrs_in_the_past_for_eval=True,
        pred_obj_scores=True,
        pred_obj_scores_mlp=True,
        fixed_no_obj_ptr=True,
        multimask_output_for_tracking=True,
        use_multimask_token_for_obj_ptr=True,
        multimask_min_pt_num=0,
        use_mlp_for_obj_ptr_proj=True,
        sam_mask_decoder_extra_args=stable,
    )
    model.load_state_dict(_weights(model))
    return model.eval()


def _followed(model: Any) -> dict[str, np.ndarray]:
    """The mask of the middle frame followed both ways, and what is kept of the frames."""
    import sam2.sam2_video_predictor as module
    import torch

    mean, deviation = torch.tensor([[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]])
    frames = torch.stack([torch.from_numpy(i.copy()) for i in images_by_rule()]).float() / 255
    frames = ((frames - mean) / deviation).permute(0, 3, 1, 2)
    module.load_video_frames = lambda **_: (frames, EDGE, EDGE)
    state = model.init_state("")
    model.add_new_mask(state, 1, 1, mask_by_rule())
    for reverse in (False, True):
        for _ in model.propagate_in_video(state, start_frame_idx=1, reverse=reverse):
            pass
    outputs = state["output_dict_per_obj"][0]
    made = {}
    for frame in range(len(frames)):
        kept = outputs["cond_frame_outputs" if frame == 1 else "non_cond_frame_outputs"][frame]
        made[f"{frame}/logits"] = kept["pred_masks"]
        made[f"{frame}/pointer"] = kept["obj_ptr"]
        made[f"{frame}/memory"] = kept["maskmem_features"].float()
        made[f"{frame}/score"] = kept["object_score_logits"]
    return {key: value.numpy() for key, value in made.items()}


def _prompted(model: Any) -> dict[str, np.ndarray]:
    """Masks of a point (three), and of a box and of two points (one each), in the first image."""
    import torch
    from sam2.sam2_image_predictor import SAM2ImagePredictor

    predictor = SAM2ImagePredictor(model)
    predictor._bb_feat_sizes = [(EDGE // 4,) * 2, (EDGE // 8,) * 2, (EDGE // 16,) * 2]
    predictor.set_image(images_by_rule()[0])
    point, second = np.array([[40.0, 70.0]]), np.array([[40.0, 70.0], [90.0, 30.0]])
    made = {}
    with torch.inference_mode():
        for name, alternatives, prompt in (
            ("point", True, {"point_coords": point, "point_labels": np.ones(1)}),
            ("points", False, {"point_coords": second, "point_labels": np.array([1, 0])}),
            ("box", False, {"box": np.array([20.0, 30.0, 80.0, 100.0])}),
        ):
            _, quality, logits = predictor.predict(**prompt, multimask_output=alternatives)
            made |= {f"{name}/logits": logits, f"{name}/quality": quality}
    return made


if __name__ == "__main__":
    original = _model()
    write_npz(sys.argv[1], **_followed(original), **_prompted(original))
