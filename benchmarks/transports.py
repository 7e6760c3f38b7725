"""Environments of processes that talk over DDS, by the transports that they use."""

from __future__ import annotations

import os
from pathlib import Path

PROFILE = "fastdds.xml"
"""The one in config/."""
TRANSPORTS = ("DEFAULT", "LARGE_DATA", PROFILE)

_ROOT = Path(__file__).resolve().parent.parent


def environment(transports: str, number: int) -> dict[str, str]:
    """This process's environment with other transports, on a domain of its own.

    Args:
        transports: one of :data:`TRANSPORTS`.
        number: of the run, so that one does not hear another.
    """
    chosen = (
        {"FASTDDS_DEFAULT_PROFILES_FILE": str(_ROOT / "config" / PROFILE)}
        if transports == PROFILE
        else {"FASTDDS_BUILTIN_TRANSPORTS": transports}
    )
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("FASTDDS_", "FASTRTPS_"))}
    return {
        **kept,
        **chosen,
        "ROS_DOMAIN_ID": str(1 + (os.getpid() + number) % 100),
        "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST",
        "PYTHONPATH": os.pathsep.join([str(_ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]),
    }
