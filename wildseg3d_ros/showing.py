"""The page of a scene, served by a process of its own, for who works in Python."""

from __future__ import annotations

import contextlib
import re
import socket
import subprocess
import sys
import tempfile
import threading
import time
import weakref
import webbrowser
from pathlib import Path
from urllib.parse import urlsplit

from wildseg3d_ros.core.errors import FileError
from wildseg3d_ros.core.files.reading import is_regular
from wildseg3d_ros.scene.file.snapshot import save_scene
from wildseg3d_ros.scene.scene import Scene

_OPEN = re.compile(r"open (http://\S+)")
_END_SECONDS = 10.0
_POLL_SECONDS = 0.05


class Shown:
    """A page that is served.

    Args:
        scene: what it shows.
        path: the scene's file, if it has one; else one is written for as long as this lives.
        port: or the next free one.
        browser: whether a browser is told to open the page.

    Raises:
        FileError: the page cannot be served; the text is the server's.
    """

    def __init__(self, scene: Scene, path: Path | None, port: int, browser: bool) -> None:
        folder = None
        if path is None or not is_regular(path):
            folder = tempfile.TemporaryDirectory(prefix="wildseg3d-")
            path = Path(folder.name) / "scene.ws3d"
            save_scene(scene, path)
        words = ["-m", "wildseg3d_ros.cli", "view", str(path), "--port", str(port)]
        self._process = subprocess.Popen(
            [sys.executable, *words], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        # Also when this is forgotten, or the interpreter ends.
        self._end = weakref.finalize(self, _end, self._process, folder)
        self.address = self._served()
        if browser:
            webbrowser.open(self.address)

    def __repr__(self) -> str:
        return f"<page at {self.address}>" if self._end.alive else "<page, closed>"

    def _repr_html_(self) -> str:
        return f'<iframe src="{self.address}" width="100%" height="720"></iframe>'

    def __enter__(self) -> Shown:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends the server."""
        self._end()

    def wait(self) -> None:
        """Returns when the server has ended; Ctrl-C ends it."""
        with contextlib.suppress(KeyboardInterrupt):
            self._process.wait()
        self.close()

    def _served(self) -> str:
        said = []
        assert self._process.stdout is not None
        for line in self._process.stdout:
            said.append(line.strip())
            if found := _OPEN.search(line):
                # A pipe that nobody reads would stop the server when it is full.
                drain = threading.Thread(target=self._process.stdout.read, daemon=True)
                drain.start()
                self._wait_for(found[1])
                return found[1]
        self.close()
        reason = next((line for line in reversed(said) if line), "it ended without a word")
        raise FileError(f"the page cannot be served: {reason.removeprefix('wildseg3d: error: ')}")

    def _wait_for(self, address: str) -> None:
        """Returns when the server, which says its address first, takes connections."""
        where = urlsplit(address)
        while self._process.poll() is None:
            with contextlib.suppress(OSError):
                socket.create_connection((where.hostname, where.port or 80), 1.0).close()
                return
            time.sleep(_POLL_SECONDS)


def _end(process: subprocess.Popen, folder: tempfile.TemporaryDirectory | None) -> None:
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    if folder is not None:
        folder.cleanup()
