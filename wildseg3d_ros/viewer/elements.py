"""The two elements of the page that are drawn by scripts of ours: image and cloud."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nicegui.elements.scene
from nicegui.element import Element

_THREE = Path(nicegui.elements.scene.__file__).parent / "dist"
"""three.js, as NiceGUI brings it along."""


class _Drawn(Element):
    def show(self, **properties: Any) -> None:
        """Sends properties that differ from what was sent before."""
        new = {k: v for k, v in properties.items() if self._props.get(k, ...) != v}
        if new:
            self._props.update(new)
            self.update()


class CameraImage(_Drawn, component="camera.js"):
    """A camera's image; events ``clicked`` and ``drawn`` (a rectangle), in pixels."""


class CloudPane(_Drawn, component="cloud.js", esm={"nicegui-scene": str(_THREE)}):
    """The scene's cloud; events ``ray`` (a click) and ``shown`` (a selection is drawn)."""
