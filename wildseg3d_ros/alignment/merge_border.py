"""MERGE: delete this file. Graphs and poses for parts that still take torch tensors."""

from dataclasses import replace

import torch

from wildseg3d_ros.alignment.graph.graph import Graph
from wildseg3d_ros.alignment.graph.initialization import Poses
from wildseg3d_ros.alignment.priors.factors import Linearised


def as_torch(value):
    """A graph or poses with tensors."""
    if isinstance(value, Graph):
        return replace(value, x=torch.from_numpy(value.x), weight=torch.from_numpy(value.weight))
    return Poses(*map(torch.from_numpy, (value.scale, value.rotation, value.translation)))


class _Numpy(Linearised):
    def apply(self, xi):
        flat = xi.reshape(len(self.cross), -1)
        low_rank = self.cross @ (self.inner @ (self.cross.T @ flat))
        return self.own @ xi - low_rank.reshape(xi.shape)


def linearised(priors, poses, pivot, fixed):
    """Priors linearised, in NumPy."""
    found = priors.linearise(as_torch(poses), torch.from_numpy(pivot), fixed)
    return _Numpy(*(getattr(found, n).numpy() for n in found.__dataclass_fields__))
