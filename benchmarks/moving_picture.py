"""The README's moving picture: a click in the page, and the cloud that turns.

``python -m benchmarks.moving_picture`` builds the shipped table, opens it with `wildseg3d view`,
clicks the cereal box in Chromium without a display, turns the cloud, and writes
docs/images/click.webp, and viewer.jpg of the page after the click. It needs the extra ``viewer``,
playwright and Chromium.
"""

from __future__ import annotations

import importlib.util
import io
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from PIL import Image

ROOT = Path(__file__).resolve().parent.parent
WRITTEN = TARGET, STILL = tuple(
    ROOT / "docs" / "images" / name for name in ("click.webp", "viewer.jpg")
)
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
SIZE = (1280, 740)
"""Of the browser's window [px]."""
WIDTH = 820
"""Of the picture [px]."""
CAMERA, PIXEL, IMAGE_SIZE = 3, (175, 180), (640, 480)
CLICKED = 2
"""Which picture is the first one after the click."""
STEPS = 22
"""Pictures of the turning cloud."""
MOST_BYTES = 1_500_000
STILL_QUALITY = 82
REHEARSALS = 4
"""Clicks before the shown one: the first ones of a page load code and fill caches."""


@contextmanager
def page_of(scene: Path) -> Iterator[str]:
    """The address of a scene's page, while it is served."""
    command = [sys.executable, "-m", "wildseg3d_ros.cli", "view", str(scene), "--port", "8391"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            for line in process.stdout:
                if found := re.match(r"open (http://\S+)", line):
                    yield found[1]
                    return
            raise RuntimeError("the page did not start; `wildseg3d view` says why")
        finally:
            process.terminate()


def place(page: Any) -> tuple[float, float]:
    """Where the clicked pixel is in the window."""
    area = page.locator(".ws-canvas img").nth(CAMERA).bounding_box()
    return tuple(
        area[corner] + area[side] * (value + 0.5) / size
        for corner, side, value, size in zip(
            ("x", "y"), ("width", "height"), PIXEL, IMAGE_SIZE, strict=True
        )
    )


def draw_pointer(image: Image.Image, at: tuple[float, float]) -> None:
    """A ring where the mouse is; screenshots have no pointer."""
    from PIL import ImageDraw

    drawing = ImageDraw.Draw(image)
    x, y = at
    for radius, color in ((11, "black"), (9, "white")):
        drawing.ellipse((x - radius, y - radius, x + radius, y + radius), outline=color, width=2)


def click(page: Any, at: tuple[float, float]) -> None:
    """Clicks, and waits for all that it causes."""
    page.mouse.move(*at)
    page.wait_for_timeout(500)
    page.mouse.click(*at)
    page.get_by_test_id("selected-name").get_by_text(re.compile("Object")).wait_for()
    page.get_by_test_id("latency").get_by_text(re.compile("Shown")).wait_for()
    page.wait_for_timeout(5000)


def clear(page: Any) -> None:
    """Selects nothing."""
    page.keyboard.press("Escape")
    page.mouse.move(5, SIZE[1] - 5)
    page.wait_for_timeout(2500)


def record(page: Any) -> list[tuple[Image.Image, int]]:
    """Pictures of the page with the milliseconds that each is shown: of what is awaited between
    them, none."""
    frames: list[tuple[Image.Image, int]] = []

    def shoot(milliseconds: int, pointer: tuple[float, float] | None = None) -> None:
        image = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
        if pointer:
            draw_pointer(image, pointer)
        frames.append((image, milliseconds))

    for _ in range(REHEARSALS):
        click(page, place(page))
        clear(page)
    at = place(page)
    shoot(900)
    page.mouse.move(*at)
    page.wait_for_timeout(500)
    shoot(900, at)
    click(page, at)
    shoot(1500, at)
    pane = page.locator(".ws-cloud").bounding_box()
    x, y = pane["x"] + pane["width"] / 2, pane["y"] + pane["height"] / 2
    page.mouse.move(x, y)
    page.mouse.down()
    for step in range(1, STEPS + 1):
        page.mouse.move(x + step * pane["width"] * 0.35 / STEPS, y)
        page.wait_for_timeout(700)
        shoot(140)
    page.mouse.up()
    page.wait_for_timeout(2500)
    shoot(1200)
    return frames


def write(frames: list[tuple[Image.Image, int]], path: Path) -> None:
    """An animated WebP, as good as the limit of its size allows."""
    height = round(WIDTH * SIZE[1] / SIZE[0])
    images = [image.resize((WIDTH, height), Image.Resampling.LANCZOS) for image, _ in frames]
    for quality in (72, 60, 48, 36):
        data = io.BytesIO()
        images[0].save(
            data,
            "WEBP",
            save_all=True,
            append_images=images[1:],
            duration=[milliseconds for _, milliseconds in frames],
            loop=0,
            quality=quality,
            method=6,
        )
        if len(data.getvalue()) < MOST_BYTES:
            path.write_bytes(data.getvalue())
            print(f"wrote {path.relative_to(ROOT)}: {len(data.getvalue()) / 1e6:.2f} MB")
            return
    raise RuntimeError(f"the picture is larger than {MOST_BYTES} bytes")


def missing() -> str:
    """What is not there to record with, and the way out; empty where nothing is."""
    if not any(map(shutil.which, BROWSERS)):
        return "Chromium is missing: apt-get install chromium"
    if any(importlib.util.find_spec(each) is None for each in ("playwright", "nicegui")):
        return "playwright or the page is missing: run `make figures`, which installs them"
    return ""


def main(scene: Path | None = None) -> int:
    """Records a scene's page; builds the shipped recording where none is given."""
    if why := missing():
        sys.exit(why)
    from playwright.sync_api import sync_playwright

    browser = next(filter(None, map(shutil.which, BROWSERS)))
    with tempfile.TemporaryDirectory() as folder:
        if scene is None:
            scene = Path(folder) / "scene.ws3d"
            command = [sys.executable, "-m", "wildseg3d_ros.cli", "build", "--quiet"]
            recording = ROOT / "examples" / "tabletop"
            subprocess.run([*command, str(recording), "-o", str(scene)], check=True)
        with page_of(scene) as address, sync_playwright() as playwright:
            arguments = ["--no-sandbox", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"]
            chromium = playwright.chromium.launch(executable_path=browser, args=arguments)
            page = chromium.new_page(viewport={"width": SIZE[0], "height": SIZE[1]})
            page.set_default_timeout(120_000)
            page.goto(address)
            page.wait_for_selector(".ws-camera svg path", state="attached")
            page.wait_for_function("!document.querySelector('.ws-note')")
            page.wait_for_timeout(8000)
            frames = record(page)
            chromium.close()
    write(frames, TARGET)
    frames[CLICKED][0].save(STILL, quality=STILL_QUALITY)
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]) if len(sys.argv) > 1 else None))
