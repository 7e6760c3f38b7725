"""The video models of transformers with a batch of objects in the place of one.

Their sessions follow several objects one after the other. On a GPU most of that is waiting for
small kernels. A session's tensors have a batch dimension, though, of size one, and nearly all of
the model's code keeps it: what is replaced here is what does not.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    _Base = Any
else:
    _Base = object

_NOT_THERE = -1024.0
"""Logits of the mask of an object that a frame does not show, as SAM 2 has them."""


def resized(images: torch.Tensor, size: tuple[int, int], antialias: bool = False) -> torch.Tensor:
    """(B, C, h, w) float32 images of any type at another size (h, w), bilinear."""
    return torch.nn.functional.interpolate(
        images.float(), size=size, mode="bilinear", align_corners=False, antialias=antialias
    )


class BatchOfObjects(_Base):
    """To be mixed into ``Sam2VideoModel`` or ``EdgeTamVideoModel``.

    Tensors that transformers has as (1, ...) are (B, ...) with one entry for each of B objects,
    which are prompted in the same frame by masks. Where transformers and the original code of
    SAM 2 differ, this does what the original does.
    """

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        # (1, B, HW, C), of which only one object's would be understood, becomes (B, 1, HW, C).
        self.memory_attention.register_forward_hook(lambda _, __, out: out.transpose(0, 1))

    def _use_mask_as_output(self, *args: Any, **given: Any) -> Any:
        """What the frame with the prompt says: its masks, and their pointers.

        The original keeps a prompt's mask at the decoder's resolution, and remembers that one at
        the input's: transformers remembers the mask as it was given.
        """
        out = super()._use_mask_as_output(*args, **given)
        size = (self.image_size, self.image_size)
        out.high_res_masks = resized(out.pred_masks, size).to(out.pred_masks.dtype)
        return out

    def _single_frame_forward(
        self,
        pixel_values: None = None,
        input_points: None = None,
        input_labels: None = None,
        input_masks: torch.Tensor | None = None,
        image_embeddings: Sequence[torch.Tensor] = (),
        multimask_output: bool = True,
    ) -> Any:
        """The decoder's best mask of each object, and its pointer.

        Args:
            input_masks: (B, 1, h, w), None where objects are followed.
            image_embeddings: per level (B, C, h, w), finest first.
            multimask_output: whether the best of three masks is taken, where objects are followed:
                the pointer of a given mask is that of the single one.
        """
        assert pixel_values is None and input_points is None and input_labels is None
        multimask_output = multimask_output and input_masks is None
        batch = image_embeddings[-1].shape[0]
        device, dtype = image_embeddings[-1].device, image_embeddings[-1].dtype
        if (
            input_masks is not None
            and input_masks.shape[-2:] != self.prompt_encoder.mask_input_size
        ):
            size = self.prompt_encoder.mask_input_size
            input_masks = resized(input_masks, size, antialias=True).to(input_masks.dtype)
        sparse, dense = self.prompt_encoder(
            # A point of label -1 stands for none.
            input_points=torch.zeros(batch, 1, 1, 2, dtype=dtype, device=device),
            input_labels=-torch.ones(batch, 1, 1, dtype=torch.int32, device=device),
            input_boxes=None,
            input_masks=input_masks,
        )
        masks, quality, tokens, object_logits = self.mask_decoder(
            image_embeddings=image_embeddings[-1],
            image_positional_embeddings=self.get_image_wide_positional_embeddings().repeat(
                batch, 1, 1, 1
            ),
            sparse_prompt_embeddings=sparse,
            dense_prompt_embeddings=dense,
            multimask_output=multimask_output,
            high_resolution_features=list(image_embeddings[:-1]),
        )
        is_there = object_logits > 0
        masks = torch.where(is_there[:, None, None], masks, _NOT_THERE)
        best = (
            quality[:, 0].argmax(dim=-1) if multimask_output else quality.new_zeros(batch).long()
        )
        rows = torch.arange(batch, device=device)
        low = masks[rows, 0, best][:, None]
        token = tokens[rows, 0, best if tokens.shape[2] > 1 else 0 * best]
        full = resized(low, (self.image_size, self.image_size))
        shown = is_there[:, 0].to(token.dtype)
        pointer = shown * self.object_pointer_proj(token) + (1 - shown) * self.no_object_pointer
        model = type(self).__mro__[2]
        name = model.__name__.removesuffix("Model") + "ImageSegmentationOutput"
        return getattr(sys.modules[model.__module__], name)(
            iou_scores=quality,
            pred_masks=low,
            high_res_masks=full.to(low.dtype),
            object_pointer=pointer,
            object_score_logits=object_logits,
            image_embeddings=image_embeddings,
        )

    def _encode_new_memory(
        self,
        *,
        current_vision_feats: torch.Tensor,
        pred_masks_high_res: torch.Tensor,
        object_score_logits: torch.Tensor,
        is_mask_from_pts: bool,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """What is kept of a frame.

        EdgeTAM's resampler takes objects one by one, and gives (B, L, C); its scores of prompted
        objects lack a dimension.
        """
        count = len(pred_masks_high_res)
        size = 1 if hasattr(self, "spatial_perceiver") else count
        parts = [
            super(BatchOfObjects, self)._encode_new_memory(
                current_vision_feats=current_vision_feats[:, k : k + size],
                pred_masks_high_res=pred_masks_high_res[k : k + size],
                object_score_logits=object_score_logits.reshape(-1, 1, 1)[k : k + size],
                is_mask_from_pts=is_mask_from_pts,
            )
            for k in range(0, count, size)
        ]
        memory, positions = zip(*parts, strict=True)
        return torch.cat(memory), torch.cat(positions)

    def _batch_encode_memories(
        self,
        inference_session: Any,
        frame_idx: int,
        objects_needing_memory_encoding: Sequence[int],
        high_res_masks_for_memory: Sequence[torch.Tensor],
        object_score_logits_for_memory: Sequence[torch.Tensor],
        is_mask_from_pts_per_obj: Sequence[bool],
    ) -> None:
        """Keeps what the frame says of the objects for the frames after it (SAM 2 only: EdgeTAM
        does so in the step itself)."""
        features, _ = self._prepare_vision_features(inference_session, frame_idx, batch_size=1)
        for k, place in enumerate(objects_needing_memory_encoding):
            memory, positions = self._encode_new_memory(
                current_vision_feats=features[-1],
                pred_masks_high_res=high_res_masks_for_memory[k],
                object_score_logits=object_score_logits_for_memory[k],
                is_mask_from_pts=is_mask_from_pts_per_obj[k],
            )
            outputs = inference_session.output_dict_per_obj[place]
            for kept in (outputs["cond_frame_outputs"], outputs["non_cond_frame_outputs"]):
                if frame_idx in kept:
                    kept[frame_idx]["maskmem_features"] = memory
                    kept[frame_idx]["maskmem_pos_enc"] = positions


def batched(model_class: type) -> type:
    """The video class that follows a batch of objects."""
    return type(f"Batched{model_class.__name__}", (BatchOfObjects, model_class), {})
