"""What the command line ends with."""

from __future__ import annotations

import signal
from enum import IntEnum


class ExitCode(IntEnum):
    """Beside 0: argparse's code for errors, one for answers not to be relied on, the shell's."""

    ERROR = 2
    NOT_CONVERGED = 3
    INTERRUPTED = 128 + signal.SIGINT
    BROKEN_PIPE = 128 + signal.SIGPIPE
