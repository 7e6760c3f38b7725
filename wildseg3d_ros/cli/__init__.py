"""The ``wildseg3d`` command: build, check, segment, evaluate, align, replay, demonstrate,
train, view."""

from __future__ import annotations

import contextlib
import importlib
import io
import os
import sys
import traceback
from collections.abc import Sequence

from wildseg3d_ros.cli.arguments import DELEGATES, make_parser
from wildseg3d_ros.cli.commands import ExitCode
from wildseg3d_ros.core.errors import FileError, RigError, WildSeg3DError
from wildseg3d_ros.core.files.reading import printable, shown


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit code: 0, 2 after an error, 3 after an answer that is
    not to be relied on and for a rig that is refused, else the shell's."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a terminal may lack what a name has
            stream.reconfigure(errors="backslashreplace")
    words = list(sys.argv[1:] if arguments is None else arguments)
    verbose = "--verbose" in words
    try:
        try:
            if words and words[0] in DELEGATES:
                return _delegate(words[0], [word for word in words[1:] if word != "--verbose"])
            given = make_parser().parse_args(words)
            return given.run(given) or 0
        finally:
            # Output to a pipe or file is buffered: what is wrong with it shows here, or not
            # before exit.
            if sys.stdout is not None:
                sys.stdout.flush()
    except (WildSeg3DError, TimeoutError) as error:
        if verbose:
            traceback.print_exc()
        print(f"wildseg3d: error: {printable(str(error))}", file=sys.stderr)
        return ExitCode.UNRELIABLE if isinstance(error, RigError) else ExitCode.ERROR
    except BrokenPipeError:
        _write_nothing_more()
        return ExitCode.BROKEN_PIPE
    except OSError as error:
        if verbose or error.errno is None:
            raise
        if error.filename is None:
            _write_nothing_more()
            said = f"cannot write what was found: {error.strerror}"
        else:
            # A path that no reader or writer has met yet: a name that is too long, a folder that
            # is not to be entered.
            said = f"{error.strerror}: '{shown(error.filename)}'"
        print(f"wildseg3d: error: {said}", file=sys.stderr)
        return ExitCode.ERROR
    except KeyboardInterrupt:
        print("wildseg3d: interrupted", file=sys.stderr)
        return ExitCode.INTERRUPTED


def _write_nothing_more() -> None:
    """The reader of our output has gone (`| head`), or its disk is full: Python must not flush
    into it at exit."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _delegate(command: str, words: list[str]) -> int:
    """Runs a command that lives in a module of its own."""
    delegate = DELEGATES[command]
    try:
        module = importlib.import_module(delegate.module)
        return module.main(words, prog=f"wildseg3d {command}") or 0
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("wildseg3d_ros"):
            raise
        raise FileError(
            f"'wildseg3d {command}' {delegate.need}, whose module '{error.name}' is missing: "
            f"{delegate.way_out}"
        ) from error
