"""Objects followed over views by the video model, as if the views were frames of a video."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from wildseg3d_ros.core.geometry.visibility import Visibility
from wildseg3d_ros.core.types import WorldPointmaps
from wildseg3d_ros.masks.association import Tracks
from wildseg3d_ros.masks.sam2.batching import resized
from wildseg3d_ros.masks.sam2.network import Embedding, Sam2Network


def views_closeness(
    world: WorldPointmaps, visibility: Visibility, similarity: NDArray[np.float64]
) -> NDArray[np.float64]:
    """(N, N) how close views look, 0..2: by the surface that both show, and by their images.

    A surface counts by the cosine between the two lines of sight: from behind, a thing looks like
    another one. Where views share none, or nothing is measured, their images alone tell.

    Args:
        similarity: (N, N) of the images, 0..1.
    """
    count = len(world.points)
    shared = np.zeros((count, count))
    for a in range(count):
        pixel = np.flatnonzero(world.valid(a))
        pixel = pixel[:: max(1, len(pixel) // 2000)]  # some 2000 points stand for a view
        points = world.points[a].reshape(-1, 3)[pixel].astype(np.float32)
        origin = np.full(len(points), a, np.uint16)
        for b in range(count):
            row, z, there = visibility.look(b, points, origin)
            seen = np.abs(visibility.depth[b].ravel()[there] - z) < visibility.tolerance(b, z)
            sights = [points[row[seen]] - visibility.centres[v] for v in (a, b)]
            lengths = np.linalg.norm(sights[0], axis=1) * np.linalg.norm(sights[1], axis=1)
            cosine = (sights[0] * sights[1]).sum(axis=1) / np.maximum(lengths, 1e-12)
            shared[a, b] = np.maximum(cosine, 0.0).sum() / max(len(points), 1)
    return np.sqrt(shared * shared.T) + similarity


def image_similarity(embeddings: Sequence[Embedding]) -> NDArray[np.float64]:
    """(N, N) in 0..1, cosine of the images' mean features, beside what all images share."""
    means = [e.features[-1].float().mean(dim=(0, 1)).cpu().numpy() for e in embeddings]
    pooled = np.stack(means).astype(np.float64)
    pooled -= pooled.mean(axis=0)
    pooled /= np.maximum(np.linalg.norm(pooled, axis=1, keepdims=True), 1e-12)
    return 0.5 + 0.5 * pooled @ pooled.T


def order_by_closeness(closeness: NDArray[np.float64]) -> list[int]:
    """The views as frames of a video in which each looks like the one before it.

    A chain that begins with the closest two and grows at the end where the next view is closer.

    Args:
        closeness: (N, N) symmetric; the diagonal does not matter.
    """
    count = len(closeness)
    if count < 2:
        return list(range(count))
    pairs = np.where(np.eye(count, dtype=bool), -np.inf, closeness)
    chain = [int(v) for v in np.unravel_index(pairs.argmax(), pairs.shape)]
    left = set(range(count)) - set(chain)
    while left:
        rest = sorted(left)
        ends = pairs[np.ix_([chain[0], chain[-1]], rest)]
        end, k = np.unravel_index(ends.argmax(), ends.shape)
        chain.insert(0 if end == 0 else len(chain), rest[k])
        left.discard(rest[k])
    return chain


def choose_anchors(order: Sequence[int], count: int) -> list[int]:
    """``count`` views, evenly along the order."""
    count = min(count, len(order))
    return [order[int((k + 0.5) * len(order) / count)] for k in range(count)]


def track(
    network: Sam2Network,
    embeddings: Sequence[Embedding],
    layers: NDArray[np.int32],
    anchor: int,
    order: Sequence[int],
    objects: int,
    update: Callable[[float], None],
) -> list[Tracks]:
    """Follows the masks of one view forward and backward through others.

    Args:
        embeddings: of all views, with what the tracker needs.
        layers: (L, H, W) masks of the anchor view, nested ones in layers.
        order: the views that are gone through, the anchor among them, each close to the one
            before it.
        objects: how many are followed at once.
        update: progress callback, given the fraction done; may raise to cancel.

    Returns:
        One for each layer.

    Raises:
        WildSeg3DError: the network returned NaN.
    """
    named = [(k, int(i)) for k, layer in enumerate(layers) for i in np.unique(layer) if i]
    best = [np.zeros((len(layers), *e.size), np.float32) for e in embeddings]
    followed = [np.zeros((len(layers), *e.size), np.int32) for e in embeddings]
    start, size = list(order).index(anchor), (network.input_size, network.input_size)
    runs = (tuple(order[start + 1 :]), tuple(reversed(order[:start])))
    chunks = [named[k : k + objects] for k in range(0, len(named), objects)]
    steps, done = max(1, len(chunks) * (len(order) - 1)), 0
    for chunk in chunks:
        masks = torch.tensor(np.stack([layers[k] == name for k, name in chunk]))
        masks = resized(masks[:, None].to(network.device), size, antialias=True) >= 0.5
        session = begun(network, [embeddings[v] for v in order], start, masks)
        with torch.inference_mode():
            for frame in (*range(start + 1, len(order)), *range(start - 1, -1, -1)):
                back = frame < start
                out = network.call(network.video_model, session, frame_idx=frame, reverse=back)
                # Masks of objects without a score are replaced, so that only scores tell.
                for values in (out.object_score_logits, out.pred_masks):
                    if not bool(torch.isfinite(values).all()):
                        raise network.not_finite("the tracker")
                seen, view = out.object_score_logits.flatten() > 0, order[frame]
                _paint(out.pred_masks[:, 0], seen, chunk, best[view], followed[view])
                done += 1
                update(done / steps)
        session.reset_inference_session()
    reached = set(order) - {anchor}
    return [
        Tracks(anchor, tuple(m[k] if v in reached else None for v, m in enumerate(followed)), runs)
        for k in range(len(layers))
    ]


def begun(
    network: Sam2Network, embeddings: Sequence[Embedding], start: int, masks: torch.Tensor
) -> Any:
    """A video of views that are encoded already, with a batch of objects in place of one.

    Args:
        start: frame in which the objects are given.
        masks: (B, 1, S, S) of them, at the size of the network's input.
    """
    import transformers

    objects = len(masks)
    session = getattr(transformers, f"{network.family}VideoInferenceSession")(
        # Frames are never read: their features are in the cache.
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
                "vision_feats": [f.expand(-1, objects, -1) for f in embedding.features],
                "vision_pos_embeds": [network.positions.expand(-1, objects, -1)],
            },
        )
    session.add_mask_inputs(session.obj_id_to_idx(0), start, masks.to(network.dtype))
    session.obj_with_new_inputs.append(0)
    network.call(network.video_model, session, frame_idx=start)
    return session


def _paint(
    logits: torch.Tensor,
    seen: torch.Tensor,
    named: Sequence[tuple[int, int]],
    best: NDArray[np.float32],
    labels: NDArray[np.int32],
) -> None:
    """Gives each pixel of ``labels`` (L, H, W) to the most confident of the masks, named by layer
    and label, that contain it."""
    for k in torch.nonzero(seen).flatten().tolist():
        layer, name = named[k]
        height, width = best.shape[1:]
        values = resized(logits[k][None, None], (height, width))[0, 0].cpu().numpy()
        mine = values > best[layer]
        best[layer][mine] = values[mine]
        labels[layer][mine] = name
