"""A worker process: jobs come in as lines of JSON, what became of them goes out as such.

Started by :mod:`wildseg3d_ros.batch.local` as ``python -P -m wildseg3d_ros.batch.worker``.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from dataclasses import asdict

from wildseg3d_ros.batch.jobs import BatchSettings, Job
from wildseg3d_ros.batch.work import run_job
from wildseg3d_ros.core.errors import WildSeg3DError


def main() -> int:
    """Works until there are no more lines."""
    # Ctrl-C reaches the whole group of processes; the parent says when to stop.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # What libraries print must not get into the answers.
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    settings = BatchSettings.from_dict(json.loads(sys.stdin.readline()))
    for line in sys.stdin:
        try:
            answer = asdict(run_job(Job(**json.loads(line)), settings))
        except WildSeg3DError as error:
            answer = {"unwritable": str(error)}
        print(json.dumps(answer), file=answers, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
