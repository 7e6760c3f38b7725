"""SAM 2 masks: the steps from images and pointmaps to a mask cache, on one page."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from wildseg3d_ros.core.geometry.visibility import Visibility
from wildseg3d_ros.core.progress import Progress
from wildseg3d_ros.core.types import Alignment, MaskCache, MaskOrigin, View, WorldPointmaps
from wildseg3d_ros.masks.association import Tracks, associate
from wildseg3d_ros.masks.darkness import warn_if_black
from wildseg3d_ros.masks.incremental import assemble_cache, replace_view_masks, whole_labels
from wildseg3d_ros.masks.sam2.config import Sam2MaskConfig
from wildseg3d_ros.masks.sam2.generation import SegmentedView, segment_everything
from wildseg3d_ros.masks.sam2.memory import MemoryPlan, plan_memory
from wildseg3d_ros.masks.sam2.network import Embedding, Sam2Network
from wildseg3d_ros.masks.sam2.prompts import Sam2Prompts
from wildseg3d_ros.masks.sam2.tracking import (
    choose_anchors,
    image_similarity,
    order_by_closeness,
    track,
    views_closeness,
)
from wildseg3d_ros.masks.sam2.weights import lasting_name


class Sam2Masks:
    """Segments everything in every view and gives each object one id over all of them.

    Raises:
        FileError: no weights; the text has the command that fetches them.
        ConfigError: a device or a dependency is missing, or the memory bound is too small.
    """

    def __init__(self, config: Sam2MaskConfig = Sam2MaskConfig()) -> None:
        self._config = config
        self.network = Sam2Network(self._config)
        self._origin = MaskOrigin("sam2", lasting_name(self._config.weights))
        self._plan([(1, 1)])

    def _plan(self, sizes: Sequence[tuple[int, int]]) -> MemoryPlan:
        return plan_memory(
            self._config, self.network.input_size, self.network.dtype.itemsize, sizes
        )

    def check(self, views: Sequence[View], changed: int | None = None) -> None:
        """Raises ConfigError where the memory bound is too small for so many views."""
        followed = changed is None or self._config.anchors > 0
        self._plan([view.size for view in (views if followed else [views[changed or 0]])])

    def segment(
        self,
        views: Sequence[View],
        alignment: Alignment,
        pointmaps: WorldPointmaps,
        progress: Progress,
    ) -> MaskCache:
        """See :meth:`MaskBackend.segment`: up to three levels.

        Raises:
            WildSeg3DError: the network returned NaN.
        """
        plan = self._plan([view.size for view in views])
        tracked = self._config.anchors > 0 and len(views) > 1
        share = 0.5 if tracked else 0.95
        part = share / len(views)
        made = [
            self._segment_view(view, plan, progress, part * i, part)
            for i, view in enumerate(views)
        ]
        embeddings, found = [each for each, _ in made], [segmented for _, segmented in made]
        visibility = Visibility.create(alignment.K, alignment.world_from_cam, pointmaps)
        tracks = []
        if tracked:
            order = _order(embeddings, pointmaps, visibility)
            layers = {a: found[a].maps for a in choose_anchors(order, self._config.anchors)}
            orders = dict.fromkeys(layers, order)
            tracks = self._track(embeddings, layers, orders, plan, progress, share)
        result = associate(
            [view.maps for view in found],
            pointmaps,
            visibility,
            tracks,
            progress=lambda: progress.update(0.95),
        )
        progress.update(1.0)
        kept = embeddings if self._config.keep_embeddings else ()
        quality, soft = {}, {}
        for v, names in enumerate(result.id_of_mask):
            for label, object_id in names.items():
                quality[v, object_id] = found[v].quality[label]
                soft[v, object_id] = found[v].soft[label]
        scores = tuple(view.scores(whole_labels(result, v)) for v, view in enumerate(found))
        return dataclasses.replace(
            assemble_cache(result, scores, quality, soft),
            embeddings=tuple(self.network.store(each) for each in kept),
            encoder=self.network.fingerprint,
            origin=self._origin,
        )

    def segment_views(self, views: Sequence[View], progress: Progress) -> list[SegmentedView]:
        """The masks of each view by itself, without ids over views.

        Raises:
            WildSeg3DError: the network returned NaN.
        """
        made, share = [], 1.0 / len(views)
        for i, view in enumerate(views):
            # One view at a time is held in memory.
            plan = self._plan([view.size])
            made.append(self._segment_view(view, plan, progress, share * i, share)[1])
        progress.update(1.0)
        return made

    def update(
        self,
        views: Sequence[View],
        alignment: Alignment,
        pointmaps: WorldPointmaps,
        cache: MaskCache,
        changed: int,
        progress: Progress,
    ) -> MaskCache:
        """See :meth:`MaskBackend.update`.

        That view alone is segmented anew and its masks are assigned to the objects of the others
        by 3D and, where the others' embeddings were kept, by tracks; or they become new objects.
        Nothing else changes. Embeddings that another network made are made anew.
        """
        visibility = Visibility.create(alignment.K, alignment.world_from_cam, pointmaps)
        kept = list(self._own(cache))
        tracked = self._config.anchors > 0 and len(kept) > 1
        plan = self._plan([v.size for v in (views if tracked else [views[changed]])])
        share = 0.5 if tracked else 0.95
        embedding, segmented = self._segment_view(views[changed], plan, progress, 0.0, share)
        tracks = []
        if tracked:
            embeddings = []
            for v, stored in enumerate(kept):
                progress.update(share)
                image = views[v].image
                own = embedding if v == changed else self.network.embedding(image, stored)
                embeddings.append(own)
                kept[v] = stored or self.network.store(own)
            order = _order(embeddings, pointmaps, visibility)
            place = order.index(changed)
            # Its masks into all others, and those of the closest views into it.
            orders = {changed: order}
            orders |= {
                v: [v, changed] for v in order[max(place - 1, 0) : place + 2] if v != changed
            }
            layers = {
                v: segmented.maps if v == changed else np.stack([m[v] for m in cache.maps])
                for v in orders
            }
            tracks = self._track(embeddings, layers, orders, plan, progress, share)
        made = replace_view_masks(
            cache,
            changed,
            segmented.maps,
            segmented.scores,
            visibility,
            pointmaps,
            segmented.quality,
            segmented.soft,
            tracks,
        )
        progress.update(1.0)
        if not kept:
            return made
        kept[changed] = self.network.store(embedding)
        return dataclasses.replace(made, embeddings=tuple(kept), encoder=self.network.fingerprint)

    def prompts(self, images: Sequence[NDArray[np.uint8]], cache: MaskCache) -> Sam2Prompts:
        """What answers prompts that no mask of the cache satisfies."""
        return Sam2Prompts(self.network, images, self._own(cache))

    def _own(self, cache: MaskCache) -> tuple[tuple[NDArray[np.float16], ...], ...]:
        """The embeddings of a cache; empty ones of its views where another network made them."""
        if cache.encoder == self.network.fingerprint:
            return cache.embeddings
        return ((),) * len(cache.embeddings)

    def _segment_view(
        self, view: View, plan: MemoryPlan, progress: Progress, start: float, share: float
    ) -> tuple[Embedding, SegmentedView]:
        progress.update(start)
        warn_if_black(view, "what masks it has mean nothing", progress)
        embedding = self.network.encode(view.image)
        segmented = segment_everything(
            self.network,
            embedding,
            self._config,
            plan.prompts,
            lambda fraction: progress.update(start + share * fraction),
        )
        if not segmented.quality and segmented.dropped is not None:
            why = segmented.dropped.why
            progress.warn(f"camera '{view.name}': no mask was found: {why} in masks.sam2")
        return embedding, segmented

    def _track(
        self,
        embeddings: Sequence[Embedding],
        layers: Mapping[int, NDArray[np.int32]],
        orders: Mapping[int, Sequence[int]],
        plan: MemoryPlan,
        progress: Progress,
        start: float,
    ) -> list[Tracks]:
        """Tracks of the masks of each anchor view in ``layers`` along its order of views."""
        tracks = []
        for k, (anchor, masks) in enumerate(layers.items()):
            share = (0.95 - start) / len(layers)
            low = start + share * k
            tracks += track(
                self.network,
                embeddings,
                masks,
                anchor,
                orders[anchor],
                plan.objects,
                lambda fraction, low=low, share=share: progress.update(low + share * fraction),
            )
        return tracks


def _order(
    embeddings: Sequence[Embedding], world: WorldPointmaps, visibility: Visibility
) -> list[int]:
    return order_by_closeness(views_closeness(world, visibility, image_similarity(embeddings)))
