"""The README's commands: their files exist and their clicks hit objects."""

import re
from pathlib import Path

import pytest

from wildseg3d_ros.io.folder import IGNORE, load_folder

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "README.md").read_text()

CLICKS = {
    *re.findall(r"--view (\w+) --pixel (\d+) (\d+)", TEXT),
    *re.findall(r"click\.py (\w+) (\d+) (\d+)", TEXT),
    *re.findall(r'\("(\w+)", (\d+), (\d+)\)', TEXT),
}


def test_readme_clicks_hit_objects_of_the_shipped_recording():
    recording = load_folder(ROOT / "examples" / "tabletop")
    masks = {
        view.name: mask for view, mask in zip(recording.views, recording.object_masks, strict=True)
    }
    assert CLICKS
    for camera, u, v in CLICKS:
        assert masks[camera][int(v), int(u)] not in (0, IGNORE), (camera, u, v)


@pytest.mark.parametrize(
    "path", sorted(set(re.findall(r"(?:examples|config|docs|wildseg3d_ros)/[\w./-]*\w", TEXT)))
)
def test_readme_names_files_that_exist(path):
    assert (ROOT / path).exists()


def test_readme_names_make_targets_that_exist():
    makefile = (ROOT / "Makefile").read_text()
    for target in set(re.findall(r"`?make (\w+)", TEXT)):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target
