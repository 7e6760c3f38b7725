"""A constructed scene's page in a real browser: Chromium without a display, WebGL in software."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

from wildseg3d_ros.scene.file.snapshot import load_scene, save_scene
from wildseg3d_testing.exact import exact_scene
from wildseg3d_testing.scenes import construct_scene
from wildseg3d_testing.trees import treed_cache, true_tree

KNOWN = (1, 3)
"""Objects of the scene; the others are in the tree of its masks alone."""
_BROWSERS = ("chromium", "chromium-browser", "google-chrome")
SHOTS = Path(os.environ.get("WILDSEG3D_SHOTS", ""))
"""Where the tests leave pictures of the page; nowhere unless it is set."""


@pytest.fixture(scope="session")
def truth():
    return construct_scene(views=4, width=320, height=240, objects=6, seed=4)


@pytest.fixture(scope="session")
def scene_file(truth, tmp_path_factory):
    path = tmp_path_factory.mktemp("viewer") / "scene.ws3d"
    save_scene(exact_scene(truth, cache=treed_cache(truth, true_tree(truth), KNOWN)), path)
    return path


@pytest.fixture(scope="session")
def scene(scene_file):
    """As the file has it: points are kept to a millionth of their depth."""
    return load_scene(scene_file)


@contextmanager
def serving(*words):
    """The page's address and what was printed before it, of `wildseg3d view` in a process."""
    pytest.importorskip("nicegui", reason="EXTRA ABSENT: make setup EXTRAS=viewer")
    command = [sys.executable, "-m", "wildseg3d_ros.cli", "view", *map(str, words)]
    # NiceGUI serves otherwise where it believes itself in a test.
    env = {k: v for k, v in os.environ.items() if not k.startswith("PYTEST")}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    process = subprocess.Popen(command, env=env, text=True, **pipes)
    said = []
    try:
        for line in process.stdout:
            said.append(line)
            if found := re.match(r"open (http://\S+)", line):
                yield found[1], "".join(said)
                return
        pytest.fail(f"no page: {''.join(said)}")
    finally:
        process.terminate()
        process.wait(timeout=60)


@pytest.fixture(scope="session")
def address(scene_file):
    with serving(scene_file, "--port", 20000 + os.getpid() % 10000) as (found, _):
        yield found


@pytest.fixture(scope="session")
def chromium():
    playwright = pytest.importorskip(
        "playwright.sync_api", reason="BROWSER ABSENT: `pip install playwright` drives it"
    )
    program = next(filter(None, map(shutil.which, _BROWSERS)), None)
    if program is None:
        pytest.skip("BROWSER ABSENT: `apt-get install chromium` to run the tests of the page")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(
            executable_path=program, args=["--no-sandbox", "--enable-unsafe-swiftshader"]
        )
        yield browser
        browser.close()


@pytest.fixture
def visit(chromium, address):
    """Opens the page in a browser of its own; what it complains of fails the test."""
    contexts, complaints = [], []

    def open_page(url=address, width=1280, height=720, **options):
        context = chromium.new_context(viewport={"width": width, "height": height}, **options)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(30_000)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.requested = []
        page.on("request", lambda request: page.requested.append(request.url))
        page.goto(url)
        page.wait_for_selector(".ws-camera svg path", state="attached")
        page.wait_for_function("!document.querySelector('.ws-note')")
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert complaints == []


def picture(page, name):
    """Leaves a picture of the page, where the environment says so."""
    if SHOTS.name:
        SHOTS.mkdir(parents=True, exist_ok=True)
        page.screenshot(path=SHOTS / f"{name}.png")


def until(condition, seconds=60.0):
    """Waits for a condition; returns what it became."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if found := condition():
            return found
        time.sleep(0.05)
    return condition()
