"""MASt3R's network against numbers of the reference network, and against itself in other ways."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from wildseg3d_ros.pointmaps.layers import rotate  # noqa: E402
from wildseg3d_ros.pointmaps.mast3r.attention import rotation_of  # noqa: E402
from wildseg3d_ros.pointmaps.mast3r.heads import points_and_confidence  # noqa: E402
from wildseg3d_ros.pointmaps.mast3r.network import Mast3r, published_name  # noqa: E402
from wildseg3d_testing.mast3r_weights import SMALL, TINY, network_by_rule  # noqa: E402

pytestmark = pytest.mark.usefixtures("one_thread")

DATA = Path(__file__).parent / "data"
OUTPUTS = [
    (0, "points", "view1/pts3d"),
    (0, "confidence", "view1/conf"),
    (0, "descriptors", "view1/desc"),
    (0, "descriptor_confidence", "view1/desc_conf"),
    (1, "points", "view2/pts3d_in_other_view"),
    (1, "confidence", "view2/conf"),
    (1, "descriptors", "view2/desc"),
    (1, "descriptor_confidence", "view2/desc_conf"),
]


@pytest.fixture(scope="module")
def golden():
    """Output of the reference network in float32 for the weights of the rule."""
    with np.load(DATA / "mast3r_golden.npz") as file:
        return dict(file)


@pytest.fixture(scope="module")
def network():
    return network_by_rule(SMALL)


def relative(value, expected):
    value = value.float().numpy()
    assert value.shape == expected.shape
    return np.linalg.norm(value - expected) / np.linalg.norm(expected)


def images_of(golden, case, dtype=torch.float32):
    return [torch.from_numpy(golden[f"{case}/image{k}"]).to(dtype) for k in (1, 2)]


@pytest.mark.parametrize("case", ["landscape", "portrait"])
@torch.inference_mode()
def test_mast3r_outputs_are_the_references(network, golden, case):
    images = images_of(golden, case)
    assert relative(network.encode(images[0]), golden[f"{case}/encoder1"]) < 1e-5
    made = network(*images)
    for view, name, key in OUTPUTS:
        assert relative(getattr(made[view], name), golden[f"{case}/{key}"]) < 1e-5, key


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@torch.inference_mode()
def test_mast3r_shorter_numbers_cost_what_their_length_explains(golden, dtype):
    """Compared with exact arithmetic on weights that are rounded once: activations are rounded
    some fifty times on their way, at random, so their share is of the same size."""
    dtype = getattr(torch, dtype)
    network = network_by_rule(SMALL).shortened(dtype)
    rounded = network_by_rule(SMALL).shortened(dtype).shortened(torch.float32)
    made = network(*images_of(golden, "landscape", dtype))
    explained = rounded(*images_of(golden, "landscape"))
    for view, name, key in OUTPUTS:
        value, expected = getattr(made[view], name), golden[f"landscape/{key}"]
        assert value.dtype == torch.float32
        by_weights = relative(getattr(explained[view], name), expected)
        assert relative(value, expected) < 4 * by_weights, key


class PlaneHead(torch.nn.Module):
    """A head's last map where the scene is a plane, in the type that the head computes in."""

    def __init__(self, z):
        super().__init__()
        v, u = torch.meshgrid(torch.linspace(-0.4, 0.4, 48), torch.linspace(-0.5, 0.5, 64))
        self.points = z * torch.stack([u, v, torch.ones_like(u) + 0.1 * u], -1)

    def finest(self, encoder, grid):
        return encoder.new_zeros(1)

    def forward(self, finest, decoder, grid):
        length = self.points.norm(dim=-1, keepdim=True)
        raw = (self.points / length * length.log1p()).permute(2, 0, 1)[None]
        raw = torch.cat([raw, torch.zeros(1, 1, 48, 64)], dim=1)
        return raw.to(decoder[-1].dtype)


@pytest.mark.parametrize("z", [1.0, 2.0])
@torch.inference_mode()
def test_mast3r_bfloat16_leaves_a_plane_smooth(z):
    """Heads in bfloat16 would step by millimetres."""
    network = network_by_rule(TINY).shortened(torch.bfloat16)
    network.downstream_head1.dpt = network.downstream_head2.dpt = plane = PlaneHead(z)
    one, two = network(*torch.zeros(2, 1, 3, 48, 64, dtype=torch.bfloat16))
    rounded, _ = points_and_confidence(plane(None, [torch.zeros(1, dtype=torch.bfloat16)], None))
    assert (rounded[0] - plane.points).norm(dim=-1).max() > 0.0024 * z
    for made in (one, two):
        assert (made.points[0] - plane.points).norm(dim=-1).max() < 1e-5


@torch.inference_mode()
def test_mast3r_landscape_and_portrait_views_of_other_sizes(network):
    generator = torch.Generator().manual_seed(0)
    one, two = (
        torch.rand(1, 3, *size, generator=generator) * 2 - 1 for size in ((48, 80), (112, 32))
    )
    first, second = network(one, two)
    assert first.points.shape == (1, 48, 80, 3)
    assert second.descriptors.shape == (1, 112, 32, 24)
    for maps in (first, second):
        assert torch.isfinite(maps.points).all()
        assert (maps.confidence >= 1).all()
        assert (maps.descriptor_confidence > 0).all()
        assert torch.allclose(maps.descriptors.norm(dim=-1), torch.tensor(1.0), atol=1e-5)


@torch.inference_mode()
def test_mast3r_a_batch_gives_what_its_pairs_give(network, golden):
    images = images_of(golden, "landscape")
    batch = network(torch.cat(images), torch.cat(images[::-1]))
    alone = [network(*images), network(*images[::-1])]
    for view in (0, 1):
        for k in (0, 1):
            found, expected = batch[view][k], alone[k][view][0]
            assert torch.allclose(found.points, expected.points, rtol=1e-4, atol=1e-5)
            assert torch.allclose(found.descriptors, expected.descriptors, atol=1e-4)


@torch.inference_mode()
def test_grid_refuses_a_side_that_is_no_multiple_of_the_patch(network):
    with pytest.raises(ValueError, match="multiples of 16 pixels, got 50x48"):
        network.encode(torch.zeros(1, 3, 48, 50))


def test_mast3r_published_size_has_the_published_tensors():
    published = json.loads((DATA / "mast3r_checkpoint_keys.json").read_text())
    with torch.device("meta"):
        network = Mast3r()
    ours = {published_name(k): list(v.shape) for k, v in network.state_dict().items()}
    assert {key: published.get(key) for key in ours} == ours
    # What is left are second names of the same tensors, and what only training needs.
    for key in published.keys() - ours.keys():
        alias = ".scratch.layer_rn." in key
        assert alias or key == "mask_token" or "refinenet4.resConfUnit1" in key, key
    assert sum(p.numel() for p in network.parameters()) == pytest.approx(688e6, rel=0.01)


def test_decode_pays_only_for_what_depends_on_both_views():
    """Operations of the published size for eight views and all 56 directed pairs."""
    from torch.utils.flop_counter import FlopCounterMode

    def count(work, *inputs):
        with FlopCounterMode(display=False) as counter, torch.inference_mode():
            result = work(*inputs)
        return counter.get_total_flops(), result

    with torch.device("meta"):
        network, image = Mast3r(), torch.empty(1, 3, 384, 512)
    plain, _ = count(network, image, image)
    encoding, tokens = count(network.encode, image)
    one, first = count(network.role, tokens, (24, 32), 1)
    two, second = count(network.role, tokens, (24, 32), 2)
    pair, _ = count(network.decode, first, second)
    assert encoding == pytest.approx(0.523e12, rel=0.01)
    assert 2 * encoding + one + two + pair == plain
    assert 8 * (encoding + one + two) + 56 * pair < 0.48 * 56 * plain


def test_rotate_by_row_and_column():
    """Against the definition in float64: channels rotated in pairs by position times frequency."""
    channels, grid = 16, (3, 5)
    x = torch.randn(1, 15, 2, channels, generator=torch.Generator().manual_seed(1))
    found = rotate(x, rotation_of(grid, channels, x.device, x.dtype)).double().numpy()
    x = x.double().numpy()
    expected = np.empty_like(x)
    for token in range(15):
        for part, place in enumerate(divmod(token, 5)):
            for k in range(channels // 4):
                angle = place / 100 ** (2 * k / (channels // 2))
                i = part * channels // 2 + k
                j = i + channels // 4
                a, b = x[0, token, :, i], x[0, token, :, j]
                expected[0, token, :, i] = a * np.cos(angle) - b * np.sin(angle)
                expected[0, token, :, j] = b * np.cos(angle) + a * np.sin(angle)
    assert np.allclose(found, expected, atol=1e-5)


def test_rotate_leaves_attention_differences_of_positions():
    """The property that rotary embedding is made for."""
    generator = torch.Generator().manual_seed(2)
    query, key = (torch.randn(16, generator=generator, dtype=torch.float64) for _ in range(2))
    rotation = rotation_of((6, 7), 16, query.device, torch.float64)
    turned_q, turned_k = (
        rotate(v.expand(1, 42, 1, 16), rotation)[0, :, 0].reshape(6, 7, 16) for v in (query, key)
    )
    near = turned_q[0, 0] @ turned_k[2, 3]
    shifted = turned_q[3, 2] @ turned_k[5, 5]
    assert near.item() == pytest.approx(shifted.item(), rel=1e-5)
    assert near.item() != pytest.approx((turned_q[0, 0] @ turned_k[3, 2]).item(), rel=1e-3)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="NO GPU: the CPU's numbers stand alone")
@torch.inference_mode()
def test_mast3r_on_a_gpu_gives_the_processors_numbers():
    network = network_by_rule(TINY)
    images = [torch.rand(1, 3, 48, 64) * 2 - 1 for _ in range(2)]
    expected = network(*images)
    found = network.cuda()(*(image.cuda() for image in images))
    for ours, theirs in zip(found, expected, strict=True):
        assert relative(ours.points.cpu(), theirs.points.numpy()) < 1e-4
