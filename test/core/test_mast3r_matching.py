"""Reciprocal matches against brute force."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

torch = pytest.importorskip("torch")

from wildseg3d_ros.pointmaps.mast3r.matching import (  # noqa: E402
    START_STRIDE,
    STRIDE,
    matched_flags,
    reciprocal_matches,
)

BLOCK = STRIDE * START_STRIDE
DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]


def unit(values):
    return values / np.linalg.norm(values, axis=-1, keepdims=True)


def smooth_descriptors(height, width, seed, channels=24):
    """A random field that changes over some twenty pixels, as descriptors of a surface do."""
    rng = np.random.default_rng(seed)
    v, u = np.mgrid[:height, :width]
    waves = rng.normal(0, 0.15, (channels, 2, 2))
    phase = rng.uniform(0, 2 * np.pi, (channels, 2))
    angle = waves[..., 0, None, None] * v + waves[..., 1, None, None] * u + phase[..., None, None]
    return unit(np.sin(angle).sum(1).transpose(1, 2, 0)).astype(np.float32)


def brute_force(a, b):
    """All pairs of each other's nearest neighbours, as a set."""
    product = a.astype(np.float64) @ b.astype(np.float64).T
    there, back = product.argmax(1), product.argmax(0)
    return {(i, int(j)) for i, j in enumerate(there) if back[j] == i}


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("seed", range(3))
def test_reciprocal_matches_from_every_start_finds_all(seed, device):
    rng = np.random.default_rng(seed)
    a, b = (unit(rng.normal(size=(n, 24))).astype(np.float32) for n in (500, 700))
    found = reciprocal_matches(
        *(torch.from_numpy(x).to(device) for x in (a, b)), torch.arange(500, device=device)
    )
    pairs = list(zip(found[0].tolist(), found[1].tolist(), strict=True))
    assert len(pairs) == len(set(pairs))
    assert set(pairs) == brute_force(a, b)


@pytest.mark.parametrize("device", DEVICES)
def test_reciprocal_matches_from_some_starts_are_true_and_gather_from_around(device):
    """Two views of one field, shifted: an eighth of the starts finds far more than an eighth."""
    field = smooth_descriptors(60, 80, 0)
    rng = np.random.default_rng(1)
    a, b = (
        unit(part + rng.normal(0, 0.03, part.shape)).astype(np.float32).reshape(-1, 24)
        for part in (field[:, :70], field[:, 10:])
    )
    starts = np.arange(0, len(a), 8)
    found = reciprocal_matches(*(torch.from_numpy(x).to(device) for x in (a, b, starts)))
    pairs = set(zip(found[0].tolist(), found[1].tolist(), strict=True))
    truth = brute_force(a, b)
    assert pairs <= truth
    direct = {pair for pair in truth if pair[0] % 8 == 0}
    assert direct <= pairs, "a start that is matched arrives at once"
    assert len(pairs) > 1.5 * len(direct), "others arrive by iteration"


def test_reciprocal_matches_without_a_start():
    a = torch.nn.functional.normalize(torch.randn(5, 24), dim=1)
    found = reciprocal_matches(a, a, torch.zeros(0, dtype=torch.long))
    assert [len(side) for side in found] == [0, 0]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(
    "sizes", [((96, 128), (96, 128)), ((96, 128), (112, 64)), ((50, 70),) * 2]
)
def test_matched_flags_are_the_blocks_with_a_match(sizes, device):
    fields = [smooth_descriptors(*size, seed) for seed, size in enumerate(sizes)]
    if sizes[0] == sizes[1]:
        fields[1] = unit(fields[0] + 0.05 * fields[1]).astype(np.float32)
    else:  # what is cut out of the one is all of the other
        fields[1][:96, :64] = fields[0][:, :64]
    flags = matched_flags(*(torch.from_numpy(x).to(device) for x in fields))
    coarse = [x[STRIDE // 2 :: STRIDE, STRIDE // 2 :: STRIDE] for x in fields]
    truth = brute_force(*(x.reshape(-1, 24) for x in coarse))
    for side, (flag, size) in enumerate(zip(flags, sizes, strict=True)):
        flag = flag.cpu().numpy()
        assert flag.shape == size
        assert flag.dtype == np.bool_
        allowed = np.zeros(size, bool)
        for pair in truth:
            row, col = divmod(pair[side], coarse[side].shape[1])
            row, col = row // START_STRIDE * BLOCK, col // START_STRIDE * BLOCK
            allowed[row : row + BLOCK, col : col + BLOCK] = True
        assert flag.any()
        # The rim beyond the last whole block goes with the block before it.
        whole = tuple(slice(0, n // BLOCK * BLOCK) for n in size)
        assert (flag <= allowed)[whole].all()


def test_matched_flags_mark_what_both_images_show():
    shared, left, right = (smooth_descriptors(96, 96, seed) for seed in (3, 4, 5))
    one = np.concatenate([left[:, :64], shared], axis=1)
    two = np.concatenate([shared, right[:, :64]], axis=1)
    flags = matched_flags(torch.from_numpy(one), torch.from_numpy(two))
    first, second = (flag.numpy() for flag in flags)
    assert first[:, 64:].mean() > 0.9
    assert second[:, :96].mean() > 0.9
    assert first[:, :64].mean() < 0.35
    assert second[:, 96:].mean() < 0.35


def test_matched_flags_of_unrelated_descriptors():
    """Each has a nearest neighbour, and many are each other's, by chance."""
    rng = np.random.default_rng(7)
    noise = [unit(rng.normal(size=(192, 256, 24))).astype(np.float32) for _ in range(2)]
    smooth = [cv2.resize(unit(part[::4, ::4]), (256, 192)) for part in noise]
    for fields in (noise, [unit(part).astype(np.float32) for part in smooth]):
        for flag in matched_flags(*(torch.from_numpy(x) for x in fields)):
            assert flag.float().mean() < 0.05


@pytest.mark.parametrize("shift", [(0, 0), (13, -37), (2, 2)])
def test_matched_flags_with_noise_and_places_between_the_compared_pixels(shift):
    """The worst shift puts every compared pixel in the middle between four of the other image."""
    rng = np.random.default_rng(8)
    coarse = rng.normal(size=(24, 32, 24)).astype(np.float32)
    field = unit(cv2.resize(coarse, (256, 192)))
    other = unit(np.roll(field, shift, (0, 1)) + rng.normal(0, 0.05, field.shape))
    flags = matched_flags(
        torch.from_numpy(field.astype(np.float32)), torch.from_numpy(other.astype(np.float32))
    )
    assert flags[0].float().mean() > 0.9
