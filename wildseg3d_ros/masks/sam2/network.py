"""The networks: images to embeddings, prompts to masks. Points are in pixels of the image."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from wildseg3d_ros.core.devices import torch_device
from wildseg3d_ros.core.errors import InvalidScene, WildSeg3DError
from wildseg3d_ros.core.models import call
from wildseg3d_ros.masks.sam2.batching import resized
from wildseg3d_ros.masks.sam2.config import Sam2MaskConfig
from wildseg3d_ros.masks.sam2.fingerprint import encoder_fingerprint
from wildseg3d_ros.masks.sam2.weights import load_models

_IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_COLORS = {"Sam3Tracker": (3 * (0.5,), 3 * (0.5,))}
"""Mean and deviation of the colours that image encoders were trained on, by family; ImageNet's
where they are not here."""


@dataclass(frozen=True, eq=False)
class Embedding:
    """What the image encoder says of an image.

    Attributes:
        features: per level (HW, 1, C) features, finest first, as the decoders take them.
        size: (height, width) of the image.
    """

    features: tuple[torch.Tensor, ...]
    size: tuple[int, int]


class Sam2Network:
    """The image model and, sharing its encoder, the video model, which masks are tracked by.

    Args:
        config: names weights, device and number type.

    Raises:
        FileError: no such weights, or of another model; says how they are fetched.
        ConfigError: the device does not exist, or a dependency of the model is missing.
    """

    def __init__(self, config: Sam2MaskConfig) -> None:
        self.device = torch_device(config.device, "masks.sam2.device")
        name = config.dtype
        if name == "auto":
            name = "bfloat16" if self.device.type == "cuda" else "float32"
        self.dtype: torch.dtype = getattr(torch, name)
        self._weights = config.weights
        self.image_model, self.video_model = load_models(
            config.weights, self.device, self.dtype, tracker=config.anchors > 0
        )
        # Positions of prompts are float32 up to their encoding: bfloat16 would round them to four
        # pixels of the input's last 512.
        encoding = self.image_model.prompt_encoder.shared_embedding.float()
        encoding.register_forward_hook(lambda _, __, encoded: encoded.to(self.dtype))
        # Inputs are so many pixels square.
        self._sizes, self.input_size = self.call(_sizes, self.image_model.config)
        self.family = type(self.image_model).__name__.removesuffix("Model")
        """First part of the names of transformers' classes: Sam2, EdgeTam or Sam3Tracker."""
        self.fingerprint = self.call(encoder_fingerprint, self.image_model)
        """Tells this model's embeddings from those of others."""

    def call(self, network: Callable[..., Any], *given: Any, **named: Any) -> Any:
        """What one of the networks says; raises FileError where it is not as described."""
        return call(f"SAM 2 weights '{self._weights}'", network, *given, **named)

    def pixels(self, image: NDArray[np.uint8]) -> torch.Tensor:
        """(1, 3, S, S) normalised input of an (H, W, 3) RGB image, stretched to a square."""
        size = (self.input_size, self.input_size)
        pixels = torch.tensor(image, device=self.device).permute(2, 0, 1)[None].float() / 255.0
        colors = _COLORS.get(self.family, _IMAGENET)
        mean, deviation = (torch.tensor(c, device=self.device).view(1, 3, 1, 1) for c in colors)
        return ((resized(pixels, size, antialias=True) - mean) / deviation).to(self.dtype)

    @torch.inference_mode()
    def encode(self, image: NDArray[np.uint8]) -> Embedding:
        """The embedding of an (H, W, 3) uint8 RGB image."""
        features = self.call(self._features, self.pixels(image))
        embedding = Embedding(features, (image.shape[0], image.shape[1]))
        if not all(bool(torch.isfinite(f).all()) for f in embedding.features):
            raise self.not_finite("the image encoder")
        return embedding

    def _features(self, pixels: torch.Tensor) -> tuple[torch.Tensor, ...]:
        out = self.image_model.get_image_features(pixels, return_dict=True)
        # SAM 3 makes a coarser level as well, which its decoders do not take.
        levels = tuple(out.fpn_hidden_states[: len(self._sizes)])
        made = [len(level) for level in levels]
        if made != [height * width for height, width in self._sizes]:
            raise ValueError(f"features of {made} cells, backbone_feature_sizes {self._sizes}")
        return levels

    def embedding(
        self, image: NDArray[np.uint8], stored: tuple[NDArray[np.float16], ...]
    ) -> Embedding:
        """The stored embedding of an (H, W, 3) uint8 RGB image, or a new one where none is."""
        size = (image.shape[0], image.shape[1])
        return self.restore(stored, size) if stored else self.encode(image)

    @cached_property
    @torch.inference_mode()
    def positions(self) -> torch.Tensor:
        """(HW, 1, C) positional encoding of the coarsest level, which the tracker takes."""
        encoding = self.image_model.vision_encoder.neck.position_encoding
        channels = self.image_model.config.vision_config.fpn_hidden_size
        made = self.call(encoding, (1, channels, *self._sizes[-1]), self.device, self.dtype)
        return made.flatten(2).permute(2, 0, 1)

    @torch.inference_mode()
    def decode(
        self,
        embedding: Embedding,
        points: NDArray[np.floating] | None = None,
        point_labels: NDArray[np.integer] | None = None,
        boxes: NDArray[np.floating] | None = None,
        alternatives: bool = True,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Masks of a batch of prompts.

        Args:
            points: (P, n, 2) pixels (u, v) of the image, integer = pixel centre.
            point_labels: (P, n) 1 on the object, 0 off it.
            boxes: (P, 4) pixels (u, v, u, v).
            alternatives: three masks for each prompt instead of one.

        Returns:
            (P, A, h, w) float32 logits and (P, A) float32 estimated IoU, on the device.
        """
        prompt: dict[str, Any] = {}
        if points is not None:
            assert point_labels is not None
            prompt["input_points"] = self._scaled(points, embedding.size)[None]
            prompt["input_labels"] = torch.tensor(
                point_labels, dtype=torch.int32, device=self.device
            )[None]
        if boxes is not None:
            corners = self._scaled(boxes.reshape(-1, 2, 2), embedding.size)
            prompt["input_boxes"] = corners.reshape(1, -1, 4)
        *finer, coarsest = embedding.features
        features = [*finer, coarsest + self.image_model.no_memory_embedding]
        maps = [
            feature.permute(1, 2, 0).reshape(1, feature.shape[2], *size)
            for feature, size in zip(features, self._sizes, strict=True)
        ]
        given = {"image_embeddings": maps, "multimask_output": alternatives}
        out = self.call(self.image_model, **given, **prompt)
        logits, quality = out.pred_masks[0].float(), out.iou_scores[0].float()
        if not all(bool(torch.isfinite(values).all()) for values in (logits, quality)):
            raise self.not_finite("the mask decoder")
        return logits, quality

    def _scaled(self, points: NDArray[np.floating], size: tuple[int, int]) -> torch.Tensor:
        """Pixels of the image (..., 2) in those of the network's input.

        The network takes the pixel's corner and adds half a pixel itself.
        """
        scale = self.input_size / np.array([size[1], size[0]], np.float64)
        scaled = (np.asarray(points, np.float64) + 0.5) * scale - 0.5
        return torch.tensor(scaled, dtype=torch.float32, device=self.device)

    def not_finite(self, part: str) -> WildSeg3DError:
        """The error of a part of the network that returned NaN or infinity."""
        kind = str(self.dtype).removeprefix("torch.")
        remedy = "the weights are damaged: fetch them again"
        if self.dtype == torch.float16:
            remedy = "float16 may overflow: set masks.sam2.dtype to bfloat16 or float32"
        return WildSeg3DError(
            f"SAM 2: {part} returned values that are not finite (as {kind} on {self.device}); "
            f"{remedy}"
        )

    def store(self, embedding: Embedding) -> tuple[NDArray[np.float16], ...]:
        """An embedding as arrays, in half the memory."""
        largest = float(np.finfo(np.float16).max)
        return tuple(
            f.float().clamp(-largest, largest).cpu().numpy().astype(np.float16)
            for f in embedding.features
        )

    def restore(self, arrays: tuple[NDArray[np.float16], ...], size: tuple[int, int]) -> Embedding:
        """The embedding that :meth:`store` kept, of a network with this one's fingerprint.

        Raises:
            InvalidScene: its shape says that this network cannot have made it.
        """
        decoder, vision = self.image_model.mask_decoder, self.image_model.config.vision_config
        thinned = decoder.conv_s0.out_channels, decoder.conv_s1.out_channels
        channels = (*thinned, vision.fpn_hidden_size)
        expected = [(int(np.prod(s)), 1, c) for s, c in zip(self._sizes, channels, strict=True)]
        if [a.shape for a in arrays] != expected:
            raise InvalidScene(
                f"embeddings: expected arrays of shape {expected}, as the scene's network makes "
                f"them, got {[a.shape for a in arrays]}; build the scene again"
            )
        features = tuple(
            torch.tensor(np.asarray(a), dtype=self.dtype, device=self.device) for a in arrays
        )
        return Embedding(features, size)


def _sizes(config: Any) -> tuple[list[tuple[int, int]], int]:
    """(height, width) of each level of features, and the side of the input in pixels: a patch is
    a pixel of the coarsest ones."""
    sizes = [(int(h), int(w)) for h, w in config.vision_config.backbone_feature_sizes]
    if min(min(size) for size in sizes) < 1:
        raise ValueError(f"backbone_feature_sizes {sizes}")
    return sizes, int(config.prompt_encoder_config.patch_size) * sizes[-1][0]
