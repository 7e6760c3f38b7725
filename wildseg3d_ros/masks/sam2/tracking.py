"""Objects followed over views by the video model, as if the views were frames of a video."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from wildseg3d_ros.masks.association import Tracks
from wildseg3d_ros.masks.sam2.network import Embedding, Sam2Network


def order_by_closeness(world_from_cam: NDArray[np.float64]) -> list[int]:
    """The views as frames of a video in which each looks like the one before it.

    A chain that grows at the end where the next view is nearer: views are near each other that
    look at the scene from near directions, and stand near each other.

    Args:
        world_from_cam: (N, 4, 4) poses.
    """
    centres, forward = world_from_cam[:, :3, 3], world_from_cam[:, :3, 2]
    turn = np.arccos(np.clip(forward @ forward.T, -1.0, 1.0))
    shift = np.linalg.norm(centres[:, None] - centres, axis=2)
    spread = np.median(shift[shift > 0]) if (shift > 0).any() else 1.0
    distance = turn + shift / spread
    left = set(range(len(centres)))
    chain = [0]
    left.discard(0)
    while left:
        rest = sorted(left)
        ends = [chain[0], chain[-1]]
        end, k = np.unravel_index(distance[np.ix_(ends, rest)].argmin(), (2, len(rest)))
        chain.insert(0 if end == 0 and len(chain) > 1 else len(chain), rest[k])
        left.discard(rest[k])
    return chain


def choose_anchors(order: Sequence[int], count: int) -> list[int]:
    """``count`` views, evenly along the order."""
    count = min(count, len(order))
    return [order[int((k + 0.5) * len(order) / count)] for k in range(count)]


def track(
    network: Sam2Network,
    embeddings: Sequence[Embedding],
    labels: NDArray[np.int32],
    anchor: int,
    order: Sequence[int],
    objects: int,
    update: Callable[[float], None],
) -> Tracks:
    """Follows the masks of one view forward and backward through the others.

    Args:
        embeddings: of all views, with what the tracker needs.
        labels: (H, W) masks of the anchor view.
        anchor: index of that view.
        order: all views, each close to the one before it.
        objects: how many are followed at once.
        update: told of the fraction done; may raise to cancel.
    """
    names = np.unique(labels[labels > 0]).tolist()
    best = [np.zeros(e.size, np.float32) for e in embeddings]
    followed = [np.zeros(e.size, np.int32) for e in embeddings]
    start = list(order).index(anchor)
    runs = (tuple(order[start + 1 :]), tuple(reversed(order[:start])))
    chunks = [names[k : k + objects] for k in range(0, len(names), objects)]
    steps, done = max(1, len(chunks) * (len(order) - 1)), 0
    for chunk in chunks:
        session = _session(network, [embeddings[v] for v in order])
        for name in chunk:
            _add_mask(network, session, start, name, labels == name)
        with torch.inference_mode():
            network.video_model(session, frame_idx=start)
            for run, step in ((runs[0], 1), (runs[1], -1)):
                for place, view in enumerate(run):
                    out = network.video_model(
                        session, frame_idx=start + step * (place + 1), reverse=step < 0
                    )
                    seen = out.object_score_logits.flatten() > 0
                    _paint(out.pred_masks[:, 0], seen, chunk, best[view], followed[view])
                    done += 1
                    update(done / steps)
        session.reset_inference_session()
    tracked = tuple(None if v == anchor else image for v, image in enumerate(followed))
    return Tracks(anchor, tracked, runs)


def _session(network: Sam2Network, embeddings: Sequence[Embedding]) -> Any:
    """A video of views that are encoded already."""
    from transformers.models.edgetam_video.modeling_edgetam_video import (
        EdgeTamVideoInferenceSession,
    )
    from transformers.models.sam2_video.modeling_sam2_video import Sam2VideoInferenceSession

    edge = type(network.video_model).__name__.startswith("EdgeTam")
    session = (EdgeTamVideoInferenceSession if edge else Sam2VideoInferenceSession)(
        # Frames are never looked at: their features are in the cache.
        video=torch.zeros(len(embeddings), 1, dtype=network.dtype),
        video_height=network.input_size,
        video_width=network.input_size,
        inference_device=network.device,
        inference_state_device=network.device,
        dtype=network.dtype,
        max_vision_features_cache_size=len(embeddings),
    )
    for frame, embedding in enumerate(embeddings):
        session.cache.cache_vision_features(
            frame,
            {
                "vision_feats": list(embedding.features),
                "vision_pos_embeds": [embedding.positions],
            },
        )
    return session


def _add_mask(
    network: Sam2Network, session: Any, frame: int, name: int, mask: NDArray[np.bool_]
) -> None:
    size = (network.input_size, network.input_size)
    pixels = torch.tensor(mask, device=network.device)[None, None].float()
    pixels = torch.nn.functional.interpolate(
        pixels, size=size, mode="bilinear", align_corners=False, antialias=True
    )
    place = session.obj_id_to_idx(name)
    session.add_mask_inputs(place, frame, (pixels >= 0.5).to(network.dtype))
    session.obj_with_new_inputs.append(name)


def _paint(
    logits: torch.Tensor,
    seen: torch.Tensor,
    names: Sequence[int],
    best: NDArray[np.float32],
    labels: NDArray[np.int32],
) -> None:
    """Gives each pixel to the surest of the masks that hold it."""
    for k in torch.nonzero(seen).flatten().tolist():
        full = torch.nn.functional.interpolate(
            logits[k][None, None].float(), size=best.shape, mode="bilinear", align_corners=False
        )
        values = full[0, 0].cpu().numpy()
        mine = values > best
        best[mine] = values[mine]
        labels[mine] = names[k]
