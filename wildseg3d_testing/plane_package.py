"""The package of docs/how-to/extending.md, installed from its page, and a recording for it."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import numpy as np

from wildseg3d_ros.core.types import View
from wildseg3d_ros.io.folder import Recording

PAGE = Path(__file__).resolve().parents[1] / "docs" / "how-to" / "extending.md"
_FILE = re.compile(r"^```\w+\n# (\S+\.(?:py|toml))\n(.*?)^```$", re.DOTALL | re.MULTILINE)

HEIGHT = 0.8
"""Of the cameras above the plane [m]."""
RED, GREEN = 1, 2
SQUARES = {RED: (-0.1, 0.0), GREEN: (0.15, 0.05)}
"""Middle of each square on the plane [m]; their edges are 12 cm long."""
HALF_EDGE = 0.06
_SIZE, _FOCAL = (96, 128), 120.0


def install(folder: Path, more: str = "") -> Path:
    """Installs the page's package into a folder; returns what belongs on the path.

    Args:
        folder: an empty one.
        more: text that is put behind its pyproject.toml.
    """
    source, site = folder / "source", folder / "site"
    for name, text in _FILE.findall(PAGE.read_text()):
        path = source / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + (more if path.suffix == ".toml" else ""))
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps"]
    pip += ["--no-build-isolation", "--disable-pip-version-check", "--no-compile"]
    subprocess.run([*pip, "--target", str(site), str(source)], check=True)
    return site


def recording(names: tuple[str, ...] = ("cam_0", "cam_1", "cam_2")) -> Recording:
    """Cameras that look straight down at a grey plane with a red and a green square, no depth."""
    views, masks = [], []
    v, u = np.indices(_SIZE)
    K = np.array([[_FOCAL, 0, _SIZE[1] / 2], [0, _FOCAL, _SIZE[0] / 2], [0, 0, 1]])
    for number, name in enumerate(names):
        pose = np.diag([1.0, -1.0, -1.0, 1.0])
        pose[:3, 3] = 0.1 * (number - 1), 0.05 * number, HEIGHT
        x = pose[0, 3] + (u - K[0, 2]) * HEIGHT / _FOCAL
        y = pose[1, 3] - (v - K[1, 2]) * HEIGHT / _FOCAL
        image = np.full((*_SIZE, 3), 120, np.uint8)
        labels = np.zeros(_SIZE, np.uint8)
        for label, (centre_x, centre_y) in SQUARES.items():
            labels[np.maximum(abs(x - centre_x), abs(y - centre_y)) < HALF_EDGE] = label
            image[labels == label] = np.roll([200, 30, 30], label - 1)
        views.append(View(name, image, K, None, pose))
        masks.append(labels)
    return Recording(tuple(views), tuple(masks), {RED: "red square", GREEN: "green square"})
