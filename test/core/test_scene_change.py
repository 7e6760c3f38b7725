"""Whether a camera sees something else: light, noise and passers-by do not count, things do."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from wildseg3d_ros.io.images import read_color
from wildseg3d_ros.ros.monitoring.change import WIDTH, ChangeDetector, depth_thumbnail, thumbnail

FOLDER = Path(__file__).resolve().parents[2] / "examples/tabletop/images"
IMAGES = [read_color(path, upright=True) for path in sorted(FOLDER.glob("*.jpg"))][:3]
SECONDS, SHARE = 5.0, 0.005
rng = np.random.default_rng(2)

pytestmark = pytest.mark.skipif(not IMAGES, reason=f"RECORDING ABSENT: '{FOLDER}' is not there")


def seen(
    image: np.ndarray,
    gain: float | np.ndarray = 1.0,
    gamma: float = 1.0,
    gradient: float = 0.0,
    noise: float = 5.0,
    shift: int = 0,
) -> np.ndarray:
    """What a camera makes of it: light that is dimmed or comes from a side, exposure, noise."""
    height, width = image.shape[:2]
    side = np.linspace(-1, 1, width)[:, None] + 0.5 * np.linspace(-1, 1, height)[:, None, None]
    exposed = (255 * (np.arange(256) / 255) ** gamma).astype(np.float32)[image]
    grain = noise * rng.standard_normal(image.shape, np.float32)
    light = exposed * np.float32(gain) * (1 + gradient * side).astype(np.float32)
    return np.clip(np.roll(light, shift, axis=1) + grain, 0, 255).astype(np.uint8)


def changed(reference: np.ndarray, frames) -> list[float]:
    """Share that has changed after each frame; one a second."""
    detector, shares = ChangeDetector(thumbnail(reference)), []
    for frame in frames:
        detector.update(thumbnail(frame), 1.0)
        shares.append(detector.changed(SECONDS))
    return shares


def with_box(image: np.ndarray, left: int, top: int = 260, edge: int = 80) -> np.ndarray:
    """A box with a bright and a dark face stands there."""
    image = image.copy()
    image[top : top + edge, left : left + edge] = (150, 60, 40)
    image[top : top + edge // 2, left : left + edge] = (210, 170, 90)
    return image


def test_thumbnail_size():
    assert thumbnail(IMAGES[0]).shape == (120, WIDTH, 3)
    assert thumbnail(IMAGES[0][:40, :30]).shape[1] == WIDTH


@pytest.mark.parametrize(
    "light",
    [
        {"noise": 12},
        {"gain": 0.5},
        {"gain": 0.3},
        {"gain": 1.5},
        {"gamma": 1.4},
        {"gamma": 0.7},
        {"gradient": 0.3},
        {"gradient": 0.4, "gain": 0.7},
        {"shift": 3},
        {"gain": np.array([0.7, 0.8, 1.0])},
    ],
    ids=str,
)
def test_change_detector_light_noise_vibration(light):
    """Light noise and vibration do not count."""
    for image in IMAGES:
        assert max(changed(image, (seen(image, **light) for _ in range(8)))) < SHARE / 2


def test_change_detector_box_put_down():
    """A box that was put down counts when it stays."""
    for image in IMAGES:
        shares = changed(image, (seen(with_box(image, 300), gain=0.8) for _ in range(8)))
        assert max(shares[:5]) == 0, "not before it lasts"
        assert shares[-1] > SHARE
        # It covers 80 x 80 of 640 x 480 pixels.
        assert shares[-1] < 4 * 80 * 80 / (640 * 480)


def test_change_detector_box_removed():
    """It is taken away again."""
    image = IMAGES[0]
    frames = [with_box(image, 300)] * 8 + [image] * 2
    shares = changed(image, map(seen, frames))
    assert shares[7] > SHARE
    assert shares[-1] == 0


def test_change_detector_removed_or_moved():
    """Things that were taken away or moved."""
    image = with_box(IMAGES[1], 200)
    assert changed(image, (seen(IMAGES[1]) for _ in range(8)))[-1] > SHARE
    assert changed(image, (seen(with_box(IMAGES[1], 300)) for _ in range(8)))[-1] > SHARE


def arm(image: np.ndarray, angle: float) -> np.ndarray:
    """A broad arm from the upper edge reaches over the scene."""
    image = image.copy()
    base, tip = (320, -250), (int(320 + 540 * np.sin(angle)), int(-250 + 540 * np.cos(angle)))
    cv2.line(image, base, tip, (235, 120, 20), 70)
    cv2.line(image, base, tip, (60, 60, 60), 20)
    cv2.circle(image, tip, 50, (40, 40, 45), -1)
    return image


def test_change_detector_working_arm():
    """An arm that works in the view does not count."""
    for image in IMAGES:
        frames = (seen(arm(image, 0.6 * np.sin(0.45 * t))) for t in range(25))
        assert max(changed(image, frames)) < SHARE / 2


def test_change_detector_parked_arm():
    """An arm that parks in the view counts and goes again."""
    image = IMAGES[2]
    still = [arm(image, 0.4)] * 8
    shares = changed(image, map(seen, [*still, image, image]))
    assert shares[7] > SHARE
    assert shares[-1] == 0


def test_change_detector_restart():
    """What was seen before a pause does not count."""
    image = IMAGES[0]
    detector = ChangeDetector(thumbnail(image))
    for t in range(12):
        if t % 4 == 0:
            detector.restart()
        detector.update(thumbnail(seen(with_box(image, 300))), 1.0)
    assert detector.changed(SECONDS) == 0


def test_change_detector_other_resolution():
    """Another resolution is another picture."""
    detector = ChangeDetector(thumbnail(IMAGES[0]))
    for _ in range(6):
        detector.update(thumbnail(IMAGES[0][:300]), 1.0)
    assert detector.changed(SECONDS) == 1.0


def table(bowl: float = 0.0, noise: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """A white table a metre away and as white a bowl on it, so high [m], by a stereo camera."""
    depth = np.full((480, 640), 1.0, np.float32)
    depth[200:260, 300:380] -= bowl
    # Its errors are as wide as its windows, and grow with the range squared.
    error = cv2.GaussianBlur(rng.standard_normal(depth.shape, np.float32), (0, 0), 3)
    depth += noise * 0.004 * depth**2 * error / error.std()
    depth[rng.random(depth.shape) < 0.05] = rng.choice([0.0, np.nan])
    return seen(np.full((480, 640, 3), 230, np.uint8)), depth


def changed_with_depth(reference, frames) -> float:
    """Share of the image that has changed after eight seconds."""
    image, depth = reference
    detector = ChangeDetector(thumbnail(image), depth_thumbnail(depth))
    for image, depth in frames:
        detector.update(thumbnail(image), 1.0, depth_thumbnail(depth))
    return detector.changed(SECONDS)


def test_change_detector_depth_alone():
    """Depth shows what has the colour of what is behind it."""
    with_bowl = [table(0.06) for _ in range(8)]
    images = [image for image, _ in with_bowl]
    assert changed(table()[0], images)[-1] == 0, "the image alone shows nothing"
    share = 60 * 80 / (480 * 640)
    assert share / 2 < changed_with_depth(table(), with_bowl) < 2 * share
    assert share / 2 < changed_with_depth(table(0.06), (table() for _ in range(8))) < 2 * share


def test_change_detector_depth_noise():
    """Noise of depth does not count."""
    assert changed_with_depth(table(), (table() for _ in range(8))) < SHARE / 10
    assert changed_with_depth(table(), (table(noise=2.0) for _ in range(8))) < SHARE / 2


def test_change_detector_no_depth():
    """What has no depth says nothing."""
    image, depth = table(0.06)
    nothing = [(image, np.zeros_like(depth))] * 8
    assert changed_with_depth((image, depth), nothing) == 0
    assert changed_with_depth(nothing[0], [(image, depth)] * 8) == 0
