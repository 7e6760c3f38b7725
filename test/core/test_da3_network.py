"""Depth Anything 3's network against numbers of the authors' network, and its cameras."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from benchmarks.da3_reference import CASES, GOLDEN_SIZE, difference, our_numbers  # noqa: E402
from wildseg3d_ros.core.geometry.transforms import invert  # noqa: E402
from wildseg3d_ros.pointmaps.da3.cameras import decode_cameras, encode_cameras  # noqa: E402
from wildseg3d_ros.pointmaps.da3.network import DepthAnything3, published_name  # noqa: E402
from wildseg3d_testing.da3_weights import (  # noqa: E402
    SMALL,
    cameras_by_rule,
    images_by_rule,
    network_by_rule,
)

pytestmark = pytest.mark.usefixtures("one_thread")

DATA = Path(__file__).parent / "data"


@pytest.fixture(scope="module")
def network():
    return network_by_rule()


@pytest.mark.parametrize("case", CASES)
def test_da3_outputs_are_the_references(network, case):
    with np.load(DATA / "da3_golden.npz") as file:
        expected = {
            name.removeprefix(f"{case}/"): file[name]
            for name in file.files
            if name.startswith(f"{case}/")
        }
    found = our_numbers(network, case, GOLDEN_SIZE)
    assert {"depth", "confidence", "world_from_cam", "focal"} <= set(expected)
    for name, value in expected.items():
        assert difference(found[name], value) < 1e-5, name


@pytest.mark.parametrize("posed", [False, True])
def test_da3_views_of_other_sizes_in_any_order(network, posed):
    """Each view keeps its maps, whatever the order and the groups of sizes."""
    sizes = [(28, 42), (42, 28), (28, 42)]
    images = [images_by_rule(1, *size, seed)[0] for seed, size in enumerate(sizes)]
    poses, K = cameras_by_rule(3, 28, 42)
    order = [0, 2, 1]  # the first view is the frame of the cameras

    def run(which):
        cameras = encode_cameras(poses[which], K[which], [sizes[k] for k in which])
        with torch.inference_mode():
            return network(
                [images[k] for k in which], torch.from_numpy(cameras) if posed else None
            )

    first, second = run([0, 1, 2]), run(order)
    for place, k in enumerate(order):
        assert first[k].depth.shape == sizes[k]
        assert torch.allclose(first[k].depth, second[place].depth, rtol=1e-4)
        assert torch.allclose(first[k].camera, second[place].camera, atol=1e-4)


def test_da3_given_cameras_count(network):
    """What is given changes the depth of the views, so that it reaches them."""
    images = images_by_rule(2, 28, 42)
    poses, K = cameras_by_rule(2, 28, 42)
    cameras = torch.from_numpy(encode_cameras(poses, K, [(28, 42)] * 2))
    with torch.inference_mode():
        without, given = network(images), network(images, cameras)
        wider = network(images, cameras + torch.tensor([0.0] * 7 + [0.5, 0.5]))
    assert (without[1].depth - given[1].depth).abs().max() > 1e-3
    assert (wider[1].depth - given[1].depth).abs().max() > 1e-3


def test_da3_refuses_a_side_that_is_no_multiple_of_the_patch(network):
    with pytest.raises(ValueError, match="multiples of 14, got 42x30"):
        network([torch.zeros(3, 30, 42)])


def test_da3_published_size_has_the_published_tensors():
    published = json.loads((DATA / "da3_checkpoint_keys.json").read_text())
    with torch.device("meta"):
        network = DepthAnything3(SMALL)
    ours = {published_name(k): list(v.shape) for k, v in network.state_dict().items()}
    assert {key: published.get(key) for key in ours} == ours
    # What is left are coarser rays, which only training needs.
    for key in published.keys() - ours.keys():
        assert any(f"output_conv{n}_aux.{k}." in key for n in (1, 2) for k in (0, 1, 2)), key


@pytest.mark.parametrize("count", [2, 3, 4])
def test_encode_cameras_and_back(count):
    """Poses in the first camera's frame over the unit; fields of view exactly."""
    poses, K = cameras_by_rule(count, 84, 126)
    sizes = [(84, 126)] * count
    encoded = encode_cameras(poses, K, sizes)
    found, intrinsics = decode_cameras(encoded, sizes)
    relative = invert(poses[0]) @ poses
    distance = sorted(np.linalg.norm(relative[:, :3, 3], axis=1))
    unit = distance[1] if count < 4 else distance[(count - 1) // 2]
    relative[:, :3, 3] /= unit
    np.testing.assert_allclose(found, relative, atol=1e-6)
    np.testing.assert_allclose(intrinsics, K, rtol=1e-5)
