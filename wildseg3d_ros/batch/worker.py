"""A worker process: jobs come in as lines of JSON, what became of them goes out as such.

Started by :mod:`wildseg3d_ros.batch.local` as ``python -P -m wildseg3d_ros.batch.worker``. It ends
when its input does, in the middle of a job, too: whoever started it is gone.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import sys
import threading
from dataclasses import asdict
from typing import NoReturn

from wildseg3d_ros.batch.jobs import BatchSettings, Job
from wildseg3d_ros.batch.work import run_job
from wildseg3d_ros.core.errors import WildSeg3DError


def main() -> NoReturn:
    """Works until the input ends; does not return."""
    # Ctrl-C reaches the whole group of processes; the parent says when to stop.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # What libraries print must not get into the answers.
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    lines: queue.SimpleQueue[str] = queue.SimpleQueue()
    threading.Thread(target=_read, args=(lines,), daemon=True).start()
    settings = BatchSettings.from_dict(json.loads(lines.get()))
    while True:
        try:
            answer = asdict(run_job(Job(**json.loads(lines.get())), settings))
        except WildSeg3DError as error:
            answer = {"unwritable": str(error)}
        with contextlib.suppress(BrokenPipeError):  # the end of the input is about to be read
            print(json.dumps(answer), file=answers, flush=True)


def _read(lines: queue.SimpleQueue[str]) -> None:
    """Hands on the lines of the input, and ends the process with it."""
    for line in sys.stdin:
        lines.put(line)
    os._exit(0)


if __name__ == "__main__":
    main()
