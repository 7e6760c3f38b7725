"""Masks of what a text names, in each image by itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from wildseg3d_ros.core.devices import torch_device
from wildseg3d_ros.core.errors import ErrorCode, PromptError
from wildseg3d_ros.core.models import call
from wildseg3d_ros.core.progress import Progress
from wildseg3d_ros.core.types.prompts import check_text
from wildseg3d_ros.masks.sam2.batching import resized
from wildseg3d_ros.masks.sam2.published import SAM3
from wildseg3d_ros.masks.sam2.weights import load_model

MIN_SCORE = 0.3
"""Score from which a mask counts as what was named, as in transformers' post-processing."""
_MEAN = _DEVIATION = 0.5
"""Of the colours, each channel, that the network was trained on."""


@dataclass(frozen=True, eq=False)
class Named:
    """A thing that a text names, in one image.

    Attributes:
        view: index of the image.
        mask: (H, W) bool.
        score: 0..1, that it is what the text names.
    """

    view: int
    mask: NDArray[np.bool_]
    score: float


class TextFinder:
    """SAM 3, ready to be asked for things by their names.

    Args:
        weights: hub name of a downloaded model, or its folder, with its tokenizer.
        device: auto, cpu, cuda or cuda:N. bfloat16 on a GPU, else float32.
        min_score: see :data:`MIN_SCORE`.

    Raises:
        FileError: no such weights, or of another model; says how they are fetched.
        ConfigError: no such device.
    """

    def __init__(
        self, weights: str = SAM3.name, device: str = "auto", min_score: float = MIN_SCORE
    ) -> None:
        self.device = torch_device(device, "text.device (in Python the argument device)")
        self.dtype = torch.bfloat16 if self.device.type == "cuda" else torch.float32
        self.min_score = min_score
        self._model, self._tokenizer = load_model(
            weights, "Sam3Model", ("sam3", "sam3_video"), self.device, self.dtype, SAM3
        )
        self._who = f"SAM 3 weights '{weights}'"
        config = self._model.config
        self._words = call(self._who, lambda: int(config.text_config.max_position_embeddings))

    @torch.inference_mode()
    def find(
        self, images: Sequence[NDArray[np.uint8]], text: str, progress: Progress | None = None
    ) -> list[Named]:
        """What the text names in (H, W, 3) RGB images, the best first.

        Raises:
            PromptError: the text is empty or too long, or names nothing that is seen
                (UNKNOWN_OBJECT).
        """
        words = self._tokens(text)
        found: list[Named] = []
        best = 0.0
        for view, image in enumerate(images):
            if progress is not None:
                progress.update(view / len(images))
            pixels = call(self._who, self._pixels, image)
            out = call(self._who, self._model, pixel_values=pixels, **words)
            score = (out.pred_logits.float().sigmoid() * out.presence_logits.float().sigmoid())[0]
            best = max(best, float(score.max()))
            kept = score > self.min_score
            size = (image.shape[0], image.shape[1])
            # Where logits are interpolated outlines differ: the class's own takes probabilities.
            soft = resized(out.pred_masks[0][kept].float().sigmoid()[:, None], size)[:, 0]
            found += [
                Named(view, mask, value)
                for mask, value in zip(
                    (soft > 0.5).cpu().numpy(), score[kept].tolist(), strict=True
                )
                if mask.any()
            ]
        if not found:
            raise PromptError(
                f"SAM 3 finds nothing that '{text}' names in {len(images)} image(s): the best "
                f"score is {best:.2f}, needed {self.min_score:g}; name it by what is seen (a "
                "short English noun phrase, such as 'red mug'), or click it",
                ErrorCode.UNKNOWN_OBJECT,
            )
        return sorted(found, key=lambda each: -each.score)

    def _tokens(self, text: str) -> dict[str, torch.Tensor]:
        check_text(text)
        made = self._tokenizer(text, padding="max_length", max_length=self._words)
        ids, attention = made["input_ids"], made["attention_mask"]
        if len(ids) > self._words:
            raise PromptError(
                f"the text has {len(ids)} tokens, and SAM 3 reads {self._words}; name the thing "
                "in fewer words"
            )
        return {
            "input_ids": torch.tensor([ids], device=self.device),
            "attention_mask": torch.tensor([attention], device=self.device),
        }

    def _pixels(self, image: NDArray[np.uint8]) -> torch.Tensor:
        """(1, 3, S, S) input of an (H, W, 3) RGB image, stretched to a square."""
        side: Any = self._model.config.vision_config.image_size
        size = (side, side) if isinstance(side, int) else (int(side[0]), int(side[1]))
        pixels = torch.tensor(image, device=self.device).permute(2, 0, 1)[None] / 255.0
        return ((resized(pixels, size, antialias=True) - _MEAN) / _DEVIATION).to(self.dtype)
