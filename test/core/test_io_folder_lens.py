"""Lenses of recordings: distortion, fisheyes and angles of view."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from wildseg3d_ros.core.errors import FileError, InputError
from wildseg3d_testing.recording_folder import SIZE, write_png

K = np.array([[70.0, 0, 31.0], [0, 71.0, 23.5], [0, 0, 1]])
POINTS = np.array([[-0.3, -0.2, 1.0], [0.25, 0.15, 1.0], [0.0, 0.22, 1.0], [0.33, -0.25, 1.0]])


RATIONAL = {"k1": 0.3, "k2": -0.1, "p1": 0.01, "p2": -0.008, "k3": 0.02, "k4": 0.5, "k5": 0.1,
            "k6": 0.01}  # fmt: skip


def seen_by(model, coefficients):
    """Where OpenCV's own projection puts the points in the distorted image."""
    c = dict.fromkeys(RATIONAL, 0.0) | coefficients
    zero = np.zeros(3)
    if "FISHEYE" not in model:
        dist = np.array([c[name] for name in RATIONAL])
        return cv2.projectPoints(POINTS, zero, zero, K, dist)[0].reshape(-1, 2)
    dist = np.array([c["k1"], c["k2"], c["k3"], c["k4"]])
    return cv2.fisheye.projectPoints(POINTS[:, None], zero, zero, K, dist)[0].reshape(-1, 2)


@pytest.mark.parametrize(
    ("model", "coefficients"),
    [
        ("OPENCV", {"k1": -0.4, "k2": 0.1, "p1": 0.01, "p2": -0.008, "k3": 0.02}),
        ("PINHOLE", {}),
        ("FULL_OPENCV", RATIONAL),
        ("simple_radial", {"k1": -0.3}),
        ("RADIAL_FISHEYE", {"k1": -0.3, "k2": 0.05}),
        ("OPENCV_FISHEYE", {"k1": -0.3, "k2": 0.05}),
        ("OPENCV_FISHEYE", {}),
    ],
)
def test_load_folder_removes_lens_distortion(folder, model, coefficients):
    distorted = seen_by(model, coefficients)
    scale = 8  # of the drawing, so that spots lie at fractions of a pixel
    size = (SIZE[1] * scale, SIZE[0] * scale)
    image, depth, mask = (np.zeros(size[::-1], np.float32) for _ in range(3))
    for i, (u, v) in enumerate(distorted):
        centre = (round((u + 0.5) * scale), round((v + 0.5) * scale))
        cv2.circle(image, centre, 2 * scale, 255.0, -1)
        cv2.circle(depth, centre, 3 * scale, 1000.0 + i, -1)
        cv2.circle(mask, centre, 3 * scale, 1.0 + i, -1)
    small = cv2.resize(image, SIZE[::-1], interpolation=cv2.INTER_AREA).astype(np.uint8)
    write_png(folder.path / "images/right.png", cv2.cvtColor(small, cv2.COLOR_GRAY2BGR))
    write_png(folder.path / "depth/right.png", depth[4::8, 4::8].astype(np.uint16))
    write_png(folder.path / "masks/right.png", mask[4::8, 4::8].astype(np.uint8))
    folder.frame.update({"camera_model": model, **coefficients})
    recording = folder.load()
    view = recording.views[1]
    np.testing.assert_array_equal(view.K, K)
    for i, (x, y, _) in enumerate(POINTS):
        u, v = 70 * x + 31, 71 * y + 23.5
        spot = view.image[..., 0].astype(float)
        vv, uu = np.mgrid[: SIZE[0], : SIZE[1]]
        spot[np.hypot(uu - u, vv - v) > 5] = 0
        centre = [(spot * uu).sum() / spot.sum(), (spot * vv).sum() / spot.sum()]
        np.testing.assert_allclose(centre, [u, v], atol=0.3)
        # Depth and labels are taken from one pixel, never mixed.
        assert view.depth[round(v), round(u)] == pytest.approx(1.0 + i / 1000, abs=1e-6)
        assert recording.object_masks[1][round(v), round(u)] == 1 + i
    steps = np.unique(np.rint(view.depth * 1000)).astype(int)
    assert set(steps.tolist()) == {0, 1000, 1001, 1002, 1003}


def test_load_folder_outside_the_lens_has_no_depth_and_no_score(folder):
    write_png(folder.path / "depth/right.png", np.full(SIZE, 1500, np.uint16))
    write_png(folder.path / "masks/right.png", np.full(SIZE, 2, np.uint8))
    folder.frame.update({"k1": 0.8})  # pincushion: the corners come from outside the image
    recording = folder.load()
    assert recording.views[1].depth[0, 0] == 0
    assert recording.object_masks[1][0, 0] == 255
    assert recording.views[1].depth[24, 31] == pytest.approx(1.5)
    assert recording.object_masks[1][24, 31] == 2


def test_load_folder_angle_of_view(folder):
    """Blender's and instant-ngp's: the focal length from the angle over the width."""
    for key in ("fl_x", "fl_y", "cx", "cy"):
        del folder.meta[key]
    folder.meta["camera_angle_x"] = 2 * np.arctan(32 / 70)
    expected = [[70, 0, 31.5], [0, 70, 23.5], [0, 0, 1]]
    np.testing.assert_allclose(folder.load().views[0].K, expected)
    folder.meta["camera_angle_y"] = 2 * np.arctan(24 / 71)
    assert folder.load().views[0].K[1, 1] == pytest.approx(71)
    folder.meta.update(fl_x=80.0, fl_y=81.0, cx=1.0, cy=2.0)
    assert folder.load().views[0].K[0, 0] == 80
    for key in ("fl_x", "fl_y", "cx", "cy"):
        del folder.meta[key]
    folder.meta["camera_angle_x"] = 55.0
    with pytest.raises(FileError, match=r"angles of view in radians, between 0 and pi; got 55"):
        folder.load()


def test_load_folder_is_fisheye(folder):
    folder.meta.update(k1=-0.3, k2=0.05, camera_model="OPENCV_FISHEYE")
    expected = folder.load().views[0].image
    del folder.meta["camera_model"]
    assert not np.array_equal(folder.load().views[0].image, expected)
    folder.meta["is_fisheye"] = True
    np.testing.assert_array_equal(folder.load().views[0].image, expected)
    folder.meta["is_fisheye"] = 1
    np.testing.assert_array_equal(folder.load().views[0].image, expected)
    folder.meta["is_fisheye"] = "true"
    with pytest.raises(InputError, match="is_fisheye must be true or false, got 'true'"):
        folder.load()
    folder.meta["is_fisheye"] = True
    folder.meta["camera_model"] = "OPENCV"
    with pytest.raises(InputError, match="is_fisheye contradicts camera_model 'OPENCV'"):
        folder.load()
