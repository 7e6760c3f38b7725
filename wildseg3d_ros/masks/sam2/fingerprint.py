"""Which encoder made an embedding: a short text that another model, or other weights, have not."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from typing import Any

import torch

_SAMPLES = 64
"""Values of each tensor that are hashed, at equal distances: training changes all of them."""
_PARTS = ("vision_encoder.", "mask_decoder.conv_s0.", "mask_decoder.conv_s1.")
"""What an image goes through before its embedding is kept: finer features are thinned by layers
that belong to the decoder."""
_IGNORED = {"initializer_range"}
"""Fields of a configuration that say nothing of a trained network."""


def encoder_fingerprint(image_model: Any) -> str:
    """Hexadecimal digits that tell what makes a model's embeddings.

    Its structure and some values of each of its tensors are hashed, in milliseconds. They are
    rounded to bfloat16, so that float32 and bfloat16 of the same weights, whose embeddings are
    alike, are one encoder.

    Args:
        image_model: of transformers, of any number type, on any device.
    """
    structure = _structure(image_model.config.vision_config)
    digest = hashlib.sha256(json.dumps(structure, sort_keys=True).encode())
    samples = []
    for name, tensor in sorted(image_model.state_dict().items()):
        if not name.startswith(_PARTS):
            continue
        digest.update(f"{name}{tuple(tensor.shape)}".encode())
        flat = tensor.detach().flatten()
        samples.append(flat[:: max(1, flat.numel() // _SAMPLES)][:_SAMPLES].to(torch.bfloat16))
    # One transfer: hundreds of small ones from a GPU would take longer than all the rest.
    digest.update(torch.cat(samples).cpu().view(torch.int16).numpy().tobytes())
    return digest.hexdigest()[:16]


def _structure(value: Any) -> Any:
    """What a configuration says of the network, fit for JSON.

    Only fields that the model's own class declares, and only where they are not its defaults:
    versions of transformers write other fields of all models' base class, and new fields of a
    class stand for what it did before.
    """
    from transformers import PreTrainedConfig

    if isinstance(value, PreTrainedConfig):
        kind = type(value)
        usual, common = kind(), {each.name for each in dataclasses.fields(PreTrainedConfig)}
        own = {each.name for each in dataclasses.fields(kind)} - common - _IGNORED
        stated = {name: (getattr(value, name), getattr(usual, name)) for name in own}
        return {"type": value.model_type} | {
            name: _structure(stated_value)
            for name, (stated_value, default) in stated.items()
            if _structure(stated_value) != _structure(default)
        }
    if isinstance(value, dict):
        return {str(k): _structure(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_structure(each) for each in value]
    return value if isinstance(value, str | int | float | bool | None) else str(value)
