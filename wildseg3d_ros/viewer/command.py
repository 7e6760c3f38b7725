"""``wildseg3d view``: serves the page."""

from __future__ import annotations

import argparse
import secrets
import socket
import sys
from collections.abc import Sequence
from pathlib import Path

from nicegui import app, ui

from wildseg3d_ros.core.errors import ConfigError, FileError
from wildseg3d_ros.robot.config import RobotConfig
from wildseg3d_ros.viewer.file_source import FileSource
from wildseg3d_ros.viewer.guard import Guard
from wildseg3d_ros.viewer.page import Page
from wildseg3d_ros.viewer.server import Server
from wildseg3d_ros.viewer.session import Sessions
from wildseg3d_ros.viewer.source import SceneSource

_PORT, _TRIES = 8080, 20
_LOCAL = ("127.0.0.1", "localhost", "::1")
_DETAIL = """\
SCENE is a file that `wildseg3d build` wrote, or a recording, which the page builds.

The page is served to this machine alone. With --host it is for others, too: then its
address has a token that they need.

examples:
  wildseg3d view scene.ws3d
  wildseg3d view --live
  wildseg3d view --live --host 0.0.0.0
"""


def main(arguments: Sequence[str] | None = None, prog: str = "wildseg3d view") -> int:
    """Serves the page until it is told to stop.

    Raises:
        FileError: a file that is no scene. ConfigError: options that do not fit.
    """
    given = _parser(prog).parse_args(arguments)
    if given.live == (given.scene is not None):
        raise ConfigError("view takes either a SCENE or --live")
    source = _source(given)
    port = free_port(given.host, given.port)
    if port != given.port:
        print(f"port {given.port} is taken; using {port}", flush=True)
    token = None if given.host in _LOCAL else secrets.token_urlsafe(16)
    serve(source, given.host, port, token)
    return 0


def main_live() -> int:
    """``ros2 run wildseg3d viewer``: the page of a running scene node."""
    words = sys.argv[1:]
    if "--ros-args" in words:  # as `ros2 run` passes them on; the page takes none
        words = words[: words.index("--ros-args")]
    try:
        return main(["--live", *words], prog="viewer")
    except (ConfigError, FileError) as error:
        print(f"viewer: error: {error}", file=sys.stderr)
        return 2


def serve(source: SceneSource, host: str, port: int, token: str | None) -> None:
    """Serves a source's page, and prints its address.

    Args:
        token: that a browser needs; None where only this machine can connect.
    """
    sessions = Sessions()
    server = Server(source, sessions)

    async def root() -> None:
        client = ui.context.client
        await client.connected()
        page = Page(server, sessions.of_tab(client.tab_id or client.id))
        page.draw()

    shown = "localhost" if host == "0.0.0.0" else host
    shown = f"[{shown}]" if ":" in shown else shown
    address = f"http://{shown}:{port}/" + (f"?token={token}" if token else "")
    app.on_startup(lambda: print(f"open {address}", flush=True))
    app.on_shutdown(source.close)
    app.add_middleware(Guard, token=token)
    ui.run(
        root,
        host=host,
        port=port,
        title=f"wildseg3d · {source.name}",
        favicon=Path(__file__).parent / "icon.svg",
        dark=True,
        reload=False,
        show=False,
        show_welcome_message=False,
        reconnect_timeout=20.0,
    )


def free_port(host: str, first: int) -> int:
    """The first port from a number on that nobody listens at.

    Raises:
        ConfigError: an address that is not this machine's, or no free port near.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    for port in range(first, min(first + _TRIES, 65536)):
        with socket.socket(family) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, port))
                return port
            except PermissionError as error:
                raise ConfigError(f"port {port} is not for everybody: {error}") from error
            except OSError as error:
                if error.errno != 98:  # EADDRINUSE
                    raise ConfigError(f"cannot listen at '{host}': {error}") from error
    raise ConfigError(f"ports {first} to {first + _TRIES - 1} are all taken; give --port")


def _source(given: argparse.Namespace) -> SceneSource:
    if not given.live:
        if not given.scene.exists():
            raise FileError(f"there is no scene '{given.scene}'")
        return FileSource(given.scene, given.settings)
    try:
        from wildseg3d_ros.viewer.ros_source import RosSource
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("wildseg3d_ros"):
            raise
        raise FileError(
            "view --live needs ROS 2: source a ROS 2 set-up file, or give a scene's file"
        ) from error
    robot = RobotConfig(given.robot, frame_prefix=given.robot_prefix)
    return RosSource(given.namespace, robot)


def _parser(prog: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=prog,
        description="Click objects in a web page, in any camera's image or in the cloud.",
        epilog=_DETAIL,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    option = parser.add_argument
    option("scene", metavar="SCENE", type=Path, nargs="?", help="scene file, or recording")
    text = "one setting, e.g. text.weights=DIR; may be repeated; a node has parameters instead"
    option("--set", dest="settings", metavar="KEY=VALUE", action="append", default=[], help=text)
    option("--live", action="store_true", help="the scene node that runs, over ROS 2")
    option("--namespace", metavar="NS", default="", help="with --live: of the node")
    text = "with --live: latched topic with the URDF of a robot to draw (default: %(default)s)"
    option("--robot", metavar="TOPIC", default="robot_description", help=text)
    text = "with --live: stands before the names of its links in TF"
    option("--robot-prefix", metavar="PREFIX", default="", help=text)
    option("--host", default="127.0.0.1", help="address to listen at (default: %(default)s)")
    option("--port", type=int, default=_PORT, help="or the next free one (default: %(default)s)")
    return parser
