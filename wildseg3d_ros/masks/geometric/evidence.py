"""Which network, if any, adds its evidence to the geometry."""

from __future__ import annotations

from pathlib import Path

from wildseg3d_ros.core.errors import FileError
from wildseg3d_ros.core.progress import Progress
from wildseg3d_ros.masks.learned.network import AffinityModel, default_network
from wildseg3d_ros.masks.surface.model import default_model

DEFAULT, NONE = "default", "none"


def affinity_network(name: str, progress: Progress) -> AffinityModel | None:
    """The network of a setting; None with "none".

    The one of the package that is missing, or is another than the scores were fitted with, is
    done without, with a warning: geometry alone answers too.

    Raises:
        FileError: another file that is no such network.
    """
    if name == NONE:
        return None
    if name != DEFAULT:
        return AffinityModel(Path(name).expanduser())
    try:
        network = default_network()
    except FileError as error:
        reason = str(error)
    else:
        if network.hash == default_model(affinities=True).affinities:
            return network
        reason = "its file is not the one that the scores were fitted with"
    progress.warn(
        f"objects are found by geometry and colour alone, which is less reliable: the affinity "
        f"network of the package is not used ({reason}); install the package anew, or make one: "
        "wildseg3d train-masks, and set masks.geometric.network"
    )
    return None
