"""From a view's pixels to the network's and back: a pixel keeps its meaning."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from wildseg3d_ros.core.errors import InputError
from wildseg3d_ros.core.geometry.cameras import rays
from wildseg3d_ros.core.types import View
from wildseg3d_ros.pointmaps.mast3r.images import Fitting

SIZES = [
    (480, 640),
    (640, 480),
    (384, 512),
    (720, 1280),
    (1080, 1920),
    (480, 848),
    (300, 300),
    (512, 640),
    (640, 512),
    (61, 97),
    (400, 1200),
]


def fitting(size, long_side=512):
    return Fitting.of(View("c", np.zeros((*size, 3), np.uint8)), long_side, 16)


def plane(fit, slope=(0.3, -0.2)):
    """Points of a slanted plane in the network's pixels, and exactly in the image's pixels."""
    height, width = fit.size
    K = np.array([[width, 0, (width - 1) / 2], [0, width, (height - 1) / 2], [0, 0, 1.0]])
    outer = rays(K, height, width).astype(np.float64)
    # Where the middle of the network's pixel lies in the image.
    inner_h, inner_w = fit.inner
    whole = [max(round(fit.scale * s), i) for s, i in zip(fit.size, fit.inner, strict=True)]
    v = (np.arange(inner_h) + 0.5 + (whole[0] - inner_h) // 2) * height / whole[0] - 0.5
    u = (np.arange(inner_w) + 0.5 + (whole[1] - inner_w) // 2) * width / whole[1] - 0.5
    inner = np.empty((*fit.inner, 3))
    inner[..., 0] = ((u - K[0, 2]) / K[0, 0])[None]
    inner[..., 1] = ((v - K[1, 2]) / K[1, 1])[:, None]
    inner[..., 2] = 1.0

    def cut(direction):
        return direction / (1.0 - direction[..., :2] @ np.array(slope))[..., None]

    return cut(inner).astype(np.float32), cut(outer)


@pytest.mark.parametrize("size", SIZES)
def test_fitting_fits_the_grid_and_loses_little(size):
    fit = fitting(size)
    assert max(fit.inner) == 512
    assert fit.inner[0] % 16 == fit.inner[1] % 16 == 0
    assert (fit.inner[0] > fit.inner[1]) == (size[0] > size[1])
    assert min(fit.inner) <= 384, "4:3 at most, as in training"
    assert fit.apply(np.zeros((*size, 3), np.uint8)).shape == (*fit.inner, 3)
    ones = np.ones(fit.inner, np.float32)
    points = plane(fit)[0]
    _, confidence = fit.restore(points, ones)
    assert fit.lost == pytest.approx((confidence == 0).mean())
    near_square = max(size) / min(size) < 1.3
    assert fit.lost < (1 - 0.75 * max(size) / min(size) + 0.01 if near_square else 0.05)
    if size in ((480, 640), (640, 480), (384, 512), (720, 1280), (1080, 1920)):
        assert (confidence > 0).all(), "usual cameras lose nothing"


@pytest.mark.parametrize("size", SIZES)
def test_restore_brings_a_surface_to_the_pixels_that_saw_it(size):
    fit = fitting(size)
    inner, outer = plane(fit)
    points, confidence = fit.restore(inner, np.ones(fit.inner, np.float32))
    assert points.shape == (*size, 3)
    assert points.dtype == confidence.dtype == np.float32
    error = np.linalg.norm(points - outer, axis=-1)[confidence > 0]
    # Border pixels take the outermost point; all others are interpolated.
    pixel = 1.3 / max(fit.inner)
    assert np.median(error) < 0.02 * pixel
    assert error.max() < 1.5 * pixel


@pytest.mark.parametrize(
    "size, inner",
    [
        ((480, 640), (384, 512)),
        ((720, 1280), (288, 512)),
        ((400, 600), (336, 512)),
        ((400, 800), (256, 512)),
        ((1024, 1280), (384, 512)),
        ((1280, 1024), (512, 384)),
        ((1000, 1000), (384, 512)),
    ],
)
def test_fitting_sizes_of_the_training(size, inner):
    """Those of the original for the aspect ratios of common cameras."""
    assert fitting(size).inner == inner


@pytest.mark.parametrize("size", [(480, 848), (500, 620), (400, 1200)])
def test_restore_gives_no_confidence_and_no_match_to_what_was_cut_away(size):
    fit = fitting(size)
    whole = [round(fit.scale * s) for s in size]
    assert whole != list(fit.inner), "something is cut"
    _, confidence = fit.restore(plane(fit)[0], np.ones(fit.inner, np.float32))
    flags = fit.restore_flags(np.ones(fit.inner, bool))
    assert (flags == (confidence > 0)).all()
    cut = ~flags
    assert cut.any()
    inside = cut[len(cut) // 4 : -len(cut) // 4, cut.shape[1] // 4 : -cut.shape[1] // 4]
    assert not inside.any()


@pytest.mark.parametrize("size", [(960, 1280), (1080, 1920), (240, 320), (640, 480)])
def test_restore_no_point_flies_between_two_surfaces(size):
    """A near disk before a far wall: every point that comes back lies on one of the two."""
    fit = fitting(size)
    inner, _ = plane(fit, slope=(0.0, 0.0))
    v, u = np.mgrid[: fit.inner[0], : fit.inner[1]]
    disk = np.hypot(v - 0.4 * fit.inner[0], u - 0.6 * fit.inner[1]) < 0.2 * min(fit.inner)
    depth = np.where(disk, 1.0, 1.03).astype(np.float32)
    points, confidence = fit.restore(
        inner * depth[..., None], np.where(disk, 9.0, 2.0).astype("f4")
    )
    z = points[..., 2]
    on_disk, on_wall = np.isclose(z, 1.0, atol=1e-4), np.isclose(z, 1.03, atol=1e-4)
    assert (on_disk | on_wall).all()
    assert on_disk.sum() > 0.05 * z.size
    # A point and its confidence come from the same pixel.
    assert np.isclose(confidence[on_disk & (confidence > 0)], 9.0).mean() > 0.99


def test_restore_a_step_within_the_noise_is_no_edge():
    """Rough surfaces are interpolated, too: nearest points would show as stairs."""
    fit = fitting((960, 1280))
    inner, outer = plane(fit)
    noise = np.random.default_rng(0).normal(0, 2e-4, (*fit.inner, 1)).astype(np.float32)
    points, _ = fit.restore(inner * (1 + noise), np.ones(fit.inner, np.float32))
    # Nearest points alone would be off by a quarter of a network pixel on average.
    assert np.median(np.linalg.norm(points - outer, axis=-1)) < 0.12 / 512


def test_fitting_of_an_image_at_the_networks_size_changes_nothing():
    fit = fitting((384, 512))
    image = np.random.default_rng(0).integers(0, 255, (384, 512, 3), np.uint8)
    assert np.array_equal(fit.apply(image), image)
    points, confidence = np.random.default_rng(1).random((384, 512, 4), np.float32)[..., :3], None
    confidence = np.ones((384, 512), np.float32)
    back, _ = fit.restore(points, confidence)
    assert np.array_equal(back, points)


@pytest.mark.parametrize("size", SIZES)
def test_restore_finds_a_mark_at_its_pixel_again(size):
    """Through both directions: the network sees the mark where ``restore`` says it is."""
    fit = fitting(size)
    image = np.zeros((*size, 3), np.uint8)
    row, col = int(0.4 * size[0]), int(0.55 * size[1])
    image = cv2.circle(image, (col, row), max(6, size[0] // 20), (255, 255, 255), -1)
    seen = fit.apply(image)[..., 0].astype(np.float32)
    points = np.repeat(seen[..., None], 3, axis=-1)
    back = fit.restore(points, np.ones(fit.inner, np.float32))[0][..., 0]
    rows, cols = np.mgrid[: size[0], : size[1]]
    centre = np.array([(rows * back).sum(), (cols * back).sum()]) / back.sum()
    assert np.abs(centre - [row, col]).max() < 0.2 + 0.2 / fit.scale


@pytest.mark.parametrize("size", [(16, 16), (4, 640), (30, 2000), (31, 400)])
def test_fitting_names_an_image_that_is_too_small(size):
    with pytest.raises(InputError, match=rf"'c': its image of {size[1]}x{size[0]} pixels is too"):
        fitting(size)
