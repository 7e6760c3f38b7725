"""Maps brought back to the images' pixels on the network's device, by the rules of `images`."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from wildseg3d_ros.pointmaps.mast3r.images import EDGE, Axis


def restore(rows: Axis, cols: Axis, points: Tensor, confidence: Tensor) -> tuple[Tensor, Tensor]:
    """:meth:`Fitting.restore` for tensors, by its axes on their device."""
    # Confidence is a fourth channel on the way.
    maps = torch.cat([points, confidence[..., None]], dim=-1)
    smooth = torch.lerp(maps[rows.cell], maps[rows.cell + 1], rows.share[:, None, None])
    smooth = torch.lerp(smooth[:, cols.cell], smooth[:, cols.cell + 1], cols.share[:, None])
    edge = _edge_cells(points)[rows.cell][:, cols.cell]
    smooth = torch.where(edge[..., None], maps[rows.nearest][:, cols.nearest], smooth)
    inside = rows.inside[:, None] & cols.inside
    return smooth[..., :3].contiguous(), smooth[..., 3] * inside


def _edge_cells(points: Tensor) -> Tensor:
    """(h - 1, w - 1) whether the four points around the middle of a cell lie on two surfaces."""
    jumps = []
    for axis in (0, 1):
        length = torch.linalg.vector_norm(points.diff(dim=axis), dim=-1)
        padded = functional.pad(length[None, None], (2, 2, 2, 2), mode="replicate")[0, 0]
        windows = padded.unfold(0, 5, 1).unfold(1, 5, 1).flatten(2)
        jumps.append(~(length <= EDGE * windows.median(dim=2).values))
    down, along = jumps
    return down[:, :-1] | down[:, 1:] | along[:-1] | along[1:]
