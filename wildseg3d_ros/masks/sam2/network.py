"""The networks: images to embeddings, prompts to masks. Points are in pixels of the image."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from wildseg3d_ros.core.devices import torch_device
from wildseg3d_ros.core.errors import ConfigError, FileError, InvalidScene, WildSeg3DError
from wildseg3d_ros.core.files.reading import is_folder, of_home
from wildseg3d_ros.masks.sam2.batching import batched, resized
from wildseg3d_ros.masks.sam2.config import Sam2MaskConfig
from wildseg3d_ros.masks.sam2.fingerprint import encoder_fingerprint

_log = logging.getLogger(__name__)

_MODELS = {"sam2": "Sam2", "edgetam": "EdgeTam"}
"""First part of the names of their classes, by type; the video models' types end on ``_video``."""
_LICENCE = "Apache-2.0"
"""Of the published weights of SAM 2, SAM 2.1 and EdgeTAM."""
_MEAN, _DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Of the colours that the image encoder was trained on (ImageNet)."""


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
    """The image model and, sharing its encoder, the video model.

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
        self.image_model, self.video_model = _load(config.weights, self.device, self.dtype)
        # Positions of prompts are float32 up to their encoding: bfloat16 would round them to four
        # pixels of the input's last 512.
        encoding = self.image_model.prompt_encoder.shared_embedding.float()
        encoding.register_forward_hook(lambda _, __, encoded: encoded.to(self.dtype))
        vision = self.image_model.config.vision_config
        self._sizes = [tuple(size) for size in vision.backbone_feature_sizes]
        # Inputs are this many pixels square: the coarsest features have a stride of 16.
        self.input_size = 16 * int(self._sizes[-1][0])
        self.is_edgetam = "EdgeTam" in type(self.image_model).__name__
        self.fingerprint = encoder_fingerprint(self.image_model)
        """Tells this model's embeddings from those of others."""

    def pixels(self, image: NDArray[np.uint8]) -> torch.Tensor:
        """(1, 3, S, S) normalised input of an (H, W, 3) RGB image, stretched to a square."""
        size = (self.input_size, self.input_size)
        pixels = torch.tensor(image, device=self.device).permute(2, 0, 1)[None].float() / 255.0
        mean, deviation = (
            torch.tensor(c, device=self.device).view(1, 3, 1, 1) for c in (_MEAN, _DEVIATION)
        )
        return ((resized(pixels, size, antialias=True) - mean) / deviation).to(self.dtype)

    @torch.inference_mode()
    def encode(self, image: NDArray[np.uint8]) -> Embedding:
        """The embedding of an (H, W, 3) uint8 RGB image."""
        out = self.image_model.get_image_features(self.pixels(image), return_dict=True)
        embedding = Embedding(tuple(out.fpn_hidden_states), (image.shape[0], image.shape[1]))
        if not all(bool(torch.isfinite(f).all()) for f in embedding.features):
            raise self.not_finite("the image encoder")
        return embedding

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
        made = encoding((1, channels, *self._sizes[-1]), self.device, self.dtype)
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
        out = self.image_model(image_embeddings=maps, multimask_output=alternatives, **prompt)
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


def lasting_name(weights: str) -> str:
    """What finds the same weights from every folder: a hub name as it is, or an absolute path."""
    path = of_home(weights)
    return str(path.resolve()) if is_folder(path) else weights


def _load(weights: str, device: torch.device, dtype: torch.dtype) -> tuple[Any, Any]:
    import transformers

    path = of_home(weights)
    source = str(path) if is_folder(path) else weights
    hub_name = re.fullmatch("[^.~/][^/]*/[^.~/][^/]*", weights)
    if not is_folder(path) and not hub_name:
        raise FileError(f"SAM 2 weights '{weights}' do not exist; {_remedy()}")
    with _quiet():
        with _clear_errors(source):
            config = transformers.AutoConfig.from_pretrained(source, local_files_only=True)
        kind = config.model_type
        first = _MODELS.get(kind.removesuffix("_video"))
        if first is None:
            known = ", ".join(f"{each}, {each}_video" for each in sorted(_MODELS))
            raise FileError(
                f"'{weights}' is a model of type '{kind}'; expected one of {known}; {_remedy()}"
            )
        models = []
        for name in (f"{first}Model", f"{first}VideoModel"):
            model_class = getattr(transformers, name)
            model_class = batched(model_class) if "Video" in name else model_class
            with _clear_errors(source):
                model, report = model_class.from_pretrained(
                    source, local_files_only=True, dtype=dtype, output_loading_info=True
                )
            if some := [*report["missing_keys"], *report["mismatched_keys"]][:3]:
                raise FileError(
                    f"the weights of '{weights}' are not complete for {name}: "
                    f"{len(report['missing_keys'])} tensors are missing, such as {some}; "
                    f"{_remedy()}"
                )
            models.append(model)
    image_model, video_model = models
    # One encoder in memory: the two classes hold the same one.
    video_model.vision_encoder = image_model.vision_encoder
    image_model, video_model = image_model.to(device).eval(), video_model.to(device).eval()
    _log.warning(
        "SAM 2 weights '%s' (%s) loaded: %.1f M parameters as %s on %s; the published weights are "
        "under %s",
        weights,
        kind,
        sum(p.numel() for p in video_model.parameters()) / 1e6,
        str(dtype).removeprefix("torch."),
        device,
        _LICENCE,
    )
    return image_model, video_model


@contextmanager
def _quiet() -> Iterator[None]:
    """Keeps transformers and the hub from writing to the terminal."""
    import transformers
    from huggingface_hub.utils import are_progress_bars_disabled

    verbosity, were_off = transformers.logging.get_verbosity(), are_progress_bars_disabled()
    transformers.logging.set_verbosity_error()
    if not were_off:
        transformers.logging.disable_progress_bar()
    try:
        yield
    finally:
        transformers.logging.set_verbosity(verbosity)
        # Where the environment has them off, turning them on is a warning.
        if not were_off:
            transformers.logging.enable_progress_bar()


@contextmanager
def _clear_errors(source: str) -> Iterator[None]:
    """Makes errors of loading say what is missing, and the way out."""
    from safetensors import SafetensorError

    try:
        yield
    except ImportError as error:
        raise ConfigError(
            f"the model '{source}' needs a package that is not installed "
            f"({str(error).strip().splitlines()[0]}); EdgeTAM needs timm: pip install timm"
        ) from error
    except torch.OutOfMemoryError:
        raise
    except (OSError, ValueError, RuntimeError, KeyError, SafetensorError) as error:
        if not is_folder(Path(source)):
            raise FileError(
                f"SAM 2 weights '{source}' are neither a folder (there is no "
                f"'{of_home(source).absolute()}') nor a downloaded model of that name "
                f"on the hub; {_remedy(source)}"
            ) from error
        first = (str(error).strip() or repr(error)).splitlines()[0]
        raise FileError(
            f"cannot load SAM 2 weights '{source}' ({first}); {_remedy(source)}"
        ) from error


def _remedy(name: str = "") -> str:
    name = name if name and not is_folder(Path(name)) else "facebook/sam2.1-hiera-small"
    return (
        f"fetch them with `hf download {name}` (184 MB for sam2.1-hiera-small, licence "
        f"{_LICENCE}), or set masks.sam2.weights to the model's folder. The mask back end "
        "'geometric' needs no weights"
    )
