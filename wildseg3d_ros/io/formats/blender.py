"""Scenes of NeRF's synthetic data (Mildenhall et al., ECCV 2020) and of BlenderNeRF.

``transforms_train.json`` beside ``transforms_val.json`` and ``transforms_test.json``, as
``transforms.json`` but with one angle of view for all, and paths without a suffix. The views to
train on are read; Blender's units are arbitrary.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from wildseg3d_ros.core.files.reading import is_regular
from wildseg3d_ros.io.formats.base import Format, Frames
from wildseg3d_ros.io.transforms import list_transforms

_TITLE = "a Blender scene of NeRF's layout"
_VIEWS = "transforms_train.json"


def list_frames(folder: Path) -> Frames:
    """See :class:`wildseg3d_ros.io.formats.base.Format`."""
    return replace(list_transforms(folder / _VIEWS, []), metric=False)


FORMAT = Format("blender", _TITLE, _VIEWS, lambda folder: is_regular(folder / _VIEWS), list_frames)
