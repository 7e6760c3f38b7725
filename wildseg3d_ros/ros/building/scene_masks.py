"""Which mask back end changes a scene: the one that built it, unless the user chose one."""

from __future__ import annotations

from wildseg3d_ros.core.errors import ConfigError, FileError
from wildseg3d_ros.masks import MaskBackend, as_built, load_masks
from wildseg3d_ros.masks.config import MaskConfig
from wildseg3d_ros.scene.scene import Scene


class SceneMasks:
    """The loaded mask back end and, when a loaded scene needs it, one other.

    Args:
        config: of the back end that builds scenes; it is loaded now.
        chosen: whether the user named it: then it changes all scenes, too.

    Raises:
        FileError, ConfigError: as of ``load_masks``.
    """

    def __init__(self, config: MaskConfig, chosen: bool) -> None:
        self._config, self._chosen = config, chosen
        self.backend = load_masks(config)
        self._other: tuple[MaskConfig, MaskBackend] | None = None

    def of(self, scene: Scene) -> tuple[MaskBackend, str]:
        """The back end for a scene, and what a user should know of the choice; mostly nothing."""
        wanted = self._config if self._chosen else as_built(self._config, scene.masks)
        if wanted == self._config:
            return self.backend, ""
        if self._other is None or self._other[0] != wanted:
            self._other = None  # before the next one takes its memory
            try:
                self._other = wanted, load_masks(wanted)
            except (FileError, ConfigError) as error:
                return self.backend, (
                    f"the scene's masks were made by {scene.masks.origin}, which cannot be loaded "
                    f"here; changes are made by '{self._config.backend}' instead: {error}"
                )
        return self._other[1], ""
