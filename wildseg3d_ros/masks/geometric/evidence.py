"""Which network, if any, adds its evidence to the geometry."""

from __future__ import annotations

from wildseg3d_ros.core.errors import FileError
from wildseg3d_ros.core.files.reading import of_home
from wildseg3d_ros.core.progress import Progress
from wildseg3d_ros.masks.learned.network import AffinityModel, default_network
from wildseg3d_ros.masks.surface.model import default_model

DEFAULT, NONE = "default", "none"


def own_network(weights: str) -> AffinityModel | None:
    """The network in a file of the user's; None for "default" and "none".

    Raises:
        FileError: there is no such file, or no such network in it.
    """
    if weights in (DEFAULT, NONE):
        return None
    try:
        return AffinityModel(of_home(weights))
    except FileError as error:
        raise FileError(
            f"masks.geometric.weights: {error}; it is '{DEFAULT}', '{NONE}', or a file"
        ) from error


def package_network(progress: Progress) -> AffinityModel | None:
    """The network of the package. Where it is missing, or is another than the scores were fitted
    with, there is a warning and None: geometry alone answers too."""
    try:
        network = default_network()
        if network.hash == default_model(affinities=True).affinities:
            return network
        reason = "its file is not the one that the scores were fitted with"
    except FileError as error:
        reason = str(error)
    progress.warn(
        f"objects are found by geometry and colour alone, which is less reliable: the affinity "
        f"network of the package is not used ({reason}); install the package anew, or make one: "
        "wildseg3d train-masks, and set masks.geometric.weights"
    )
    return None
