"""Small SAM 2 and EdgeTAM of the real architectures with random weights, and what they say."""

from __future__ import annotations

import math
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

EDGE = 128
"""Edge of its input [px]; the published models take 1024."""


def sam2_weight_by_rule(key: str, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """A tensor from its name in transformers alone, so that numbers computed elsewhere compare.

    A standard normal draw of ``PCG64(crc32(key))``, divided by the root of the fan-in; for vectors
    ``1 + 0.1 x`` where the key ends in ``weight`` or ``scale``, else ``0.1 x``. What would leave
    masks without outlines, or objects without a score, is scaled or set.
    """
    # The two are one in every published model.
    key = key.replace("prompt_encoder.shared_embedding", "shared_image_embedding")
    rng = np.random.Generator(np.random.PCG64(zlib.crc32(key.encode())))
    x = rng.standard_normal(shape).astype(np.float32)
    if key.endswith("positional_embedding"):
        return x
    if len(shape) > 1:
        x /= np.float32(math.sqrt(math.prod(shape[1:])))
    elif key.endswith(("weight", "scale")):
        x = 1 + np.float32(0.1) * x
    else:
        x *= np.float32(0.1)
    if "output_hypernetworks_mlps" in key and key.endswith("proj_out.weight"):
        return np.float32(4) * x
    return x + np.float32(9) if key.endswith("pred_obj_score_head.proj_out.bias") else x


def write_sam2_by_rule(folder: Path) -> Path:
    """Writes a video model with weights by the rule.

    Widths are small where the original code has them as settings; its mask decoder has none.
    """
    import torch
    from transformers import Sam2VideoConfig, Sam2VideoModel

    sizes = _small_sizes()
    sizes["prompt_encoder_config"]["mask_input_channels"] = 16
    sizes["mask_decoder_config"] = {"hidden_size": 128}
    config = Sam2VideoConfig(**{**sizes, "memory_fuser_intermediate_dim": 512})
    model = Sam2VideoModel(config).eval()
    state = {
        key: torch.from_numpy(sam2_weight_by_rule(key, tuple(value.shape)))
        for key, value in model.state_dict().items()
    }
    model.load_state_dict(state)
    model.save_pretrained(folder)
    return folder


def images_by_rule(count: int = 3) -> list[NDArray[np.uint8]]:
    """(EDGE, EDGE, 3) images of coloured squares, each some pixels beside the one before it."""
    rng = np.random.Generator(np.random.PCG64(1))
    squares = rng.integers(0, 256, (8, 8, 3)).astype(np.uint8)
    image = squares.repeat(EDGE // 8, axis=0).repeat(EDGE // 8, axis=1)
    return [np.roll(image, 5 * k, axis=1) for k in range(count)]


def mask_by_rule() -> NDArray[np.bool_]:
    """(EDGE, EDGE) a disc with a speck of one pixel beside it, which a quarter of the resolution
    does not show."""
    v, u = np.indices((EDGE, EDGE))
    mask = (u - 60) ** 2 + (v - 70) ** 2 < 30**2
    mask[20, 101] = True
    return mask


def write_small_sam2(folder: Path, seed: int = 0) -> Path:
    """Writes a model of 1.1 million random parameters in the layout of the published ones.

    Random decoders return logits near 0, all alike. Here the last layers are scaled until masks
    have outlines that depend on image and point, so that what comes after has work to do.
    """
    import torch
    from transformers import Sam2VideoConfig, Sam2VideoModel

    torch.manual_seed(seed)
    return _write(Sam2VideoModel(Sam2VideoConfig(**_small_sizes())), folder)


def _small_sizes() -> dict[str, Any]:
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
    return {
        "vision_config": {
            "model_type": "sam2_vision_model",
            "backbone_config": backbone,
            "backbone_channel_list": [128, 64, 32, 16],
            "backbone_feature_sizes": [[4 * cells] * 2, [2 * cells] * 2, [cells] * 2],
            "fpn_hidden_size": 128,
        },
        "prompt_encoder_config": {
            "hidden_size": 128,
            "image_size": EDGE,
            "patch_size": 16,
            "mask_input_channels": 4,
        },
        "mask_decoder_config": {
            "hidden_size": 128,
            "mlp_dim": 32,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "iou_head_hidden_dim": 32,
        },
        "image_size": EDGE,
        "memory_attention_hidden_size": 128,
        "memory_attention_num_layers": 1,
        "memory_attention_num_attention_heads": 1,
        "memory_attention_feed_forward_hidden_size": 32,
        "memory_attention_rope_feat_sizes": [cells, cells],
        "memory_encoder_hidden_size": 128,
        "memory_encoder_output_channels": 64,
        "memory_fuser_embed_dim": 128,
        "memory_fuser_intermediate_dim": 32,
        "memory_fuser_num_layers": 1,
        "mask_downsampler_embed_dim": 128,
    }


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
    with_outlines(model.eval())
    model.save_pretrained(folder)
    return folder


def with_outlines(model: Any) -> None:
    """Scales a random model until its masks have outlines."""
    import torch

    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim > 1 and "memory" not in name and "timm" not in name:
                parameter *= 6.0
            if "output_hypernetworks_mlps" in name and name.endswith("proj_out.weight"):
                parameter *= 40.0
        model.mask_decoder.pred_obj_score_head.proj_out.bias.fill_(30.0)


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
    _do_as_the_original(model)
    given = resized(
        torch.tensor(mask)[None, None].float(),
        (model.image_size, model.image_size),
        mode="bilinear",
        antialias=True,
    )
    session.add_mask_inputs(session.obj_id_to_idx(1), 1, (given >= 0.5).float())
    session.obj_with_new_inputs.append(1)
    found = {}
    for reverse in (False, True):
        for out in model.propagate_in_video_iterator(session, start_frame_idx=1, reverse=reverse):
            full = resized(out.pred_masks.float(), size, mode="bilinear")
            found[out.frame_idx] = full[0, 0].numpy()
    return found


def _do_as_the_original(model: Any) -> None:
    """Gives a published video model what transformers changed of the original: the pointer of a
    given mask is that of the single output, its memory that of the mask at a quarter."""
    import torch

    forward, use_mask = model._single_frame_forward, model._use_mask_as_output

    def single(**given: Any) -> Any:
        return forward(**{**given, "multimask_output": given.get("input_masks") is None})

    def quarter(*args: Any, **given: Any) -> Any:
        out = use_mask(*args, **given)
        out.high_res_masks = torch.nn.functional.interpolate(
            out.pred_masks, (model.image_size, model.image_size), mode="bilinear"
        )
        return out

    model._single_frame_forward, model._use_mask_as_output = single, quarter
