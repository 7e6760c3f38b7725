"""What a scene's file costs: its size, by what is in it; processor time to save and load it."""

from __future__ import annotations

import re
import tempfile
import time
import zipfile
from pathlib import Path

from benchmarks.recordings import ROOT


def main() -> dict:
    """Figures of the shipped recording."""
    from wildseg3d_ros.io.folder import load_folder
    from wildseg3d_ros.pipeline import build_scene
    from wildseg3d_ros.scene.file.snapshot import load_scene, save_scene

    scene = build_scene(load_folder(ROOT / "examples" / "tabletop").views)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "scene.ws3d"
        start = time.process_time()
        save_scene(scene, path)
        saved = time.process_time()
        load_scene(path)
        loaded = time.process_time()
        parts: dict[str, float] = {}
        with zipfile.ZipFile(path) as file:
            for member in file.infolist():
                part = re.split(r"[/.]", member.filename)[0]
                parts[part] = parts.get(part, 0.0) + member.compress_size / 1e6
        return {
            "file_mb": path.stat().st_size / 1e6,
            "save_cpu_s": saved - start,
            "load_cpu_s": loaded - saved,
            "parts_mb": dict(sorted(parts.items(), key=lambda part: -part[1])),
        }
