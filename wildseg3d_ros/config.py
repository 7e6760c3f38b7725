"""Everything that a scene is built with: one section for each stage."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from wildseg3d_ros.alignment.config import AlignmentConfig
from wildseg3d_ros.core.errors import ConfigError
from wildseg3d_ros.core.files.text import read_yaml
from wildseg3d_ros.core.settings import from_mapping, setting
from wildseg3d_ros.core.types.working import MEGAPIXELS
from wildseg3d_ros.masks.config import MaskConfig
from wildseg3d_ros.masks.text.config import TextConfig
from wildseg3d_ros.pairing.config import PairingConfig
from wildseg3d_ros.pointmaps.config import PointmapConfig
from wildseg3d_ros.scene.config import IndexConfig


@dataclass(frozen=True)
class SceneConfig:
    """Everything that `build_scene` needs to know."""

    pairing: PairingConfig = PairingConfig()
    pointmaps: PointmapConfig = PointmapConfig()
    masks: MaskConfig = MaskConfig()
    text: TextConfig = TextConfig()
    alignment: AlignmentConfig = AlignmentConfig()
    index: IndexConfig = IndexConfig()
    max_megapixels: float = setting(
        MEGAPIXELS,
        "millions of pixels of an image that are worked on: larger images are reduced, with "
        "depth and intrinsics, while clicks and masks stay in the camera's own pixels; 0 = all",
        0.0,
        1000.0,
    )

    def of_all_views(self) -> SceneConfig:
        """The same that refuses to leave views out of a scene."""
        return replace(self, pairing=replace(self.pairing, require_all_views=True))

    @classmethod
    def from_mapping(
        cls, values: Mapping[str, Any], base: SceneConfig | None = None
    ) -> SceneConfig:
        """``base``, or else the defaults, with other settings: see :func:`from_mapping` of
        :mod:`wildseg3d_ros.core.settings`."""
        return from_mapping(base or cls(), values)

    @classmethod
    def from_yaml(cls, path: str | Path, base: SceneConfig | None = None) -> SceneConfig:
        """Reads a YAML file of nested mappings; ``base`` as of :meth:`from_mapping`.

        Raises:
            FileError: the file cannot be read. ConfigError: as :meth:`from_mapping`.
        """
        return cls.from_values(read_yaml(path, "configuration"), str(path), base)

    @classmethod
    def from_values(cls, values: Any, where: str, base: SceneConfig | None = None) -> SceneConfig:
        """What a file that was read says; errors as of :meth:`from_mapping`."""
        if not isinstance(values or {}, Mapping):
            raise ConfigError(f"'{where}' holds {type(values).__name__}, expected a mapping")
        return cls.from_mapping(values or {}, base)
