"""CameraInfo -> intrinsics, and pixels between the published and the pinhole image."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from sensor_msgs.msg import CameraInfo

from wildseg3d_ros.core.errors import ErrorCode, InputError
from wildseg3d_ros.streams.camera_info import lens_from_info

SIZE = (120, 160)
K = np.array([[140.0, 0, 79.0], [0, 142.0, 61.0], [0, 0, 1]])
LENSES = {
    "plumb_bob": [-0.25, 0.08, 0.002, -0.003, 0.0],
    "rational_polynomial": [0.2, -0.1, 0.001, 0.002, 0.01, 0.35, -0.05, 0.002],
    "equidistant": [-0.02, 0.01, -0.003, 0.001],
    "fisheye": [0.0, 0.0, 0.0, 0.0],
}


def make_info(model: str = "plumb_bob", d: list[float] | None = None) -> CameraInfo:
    P = np.zeros((3, 4))
    P[:, :3] = [[100.0, 0, 80.0], [0, 100.0, 60.0], [0, 0, 1]]
    return CameraInfo(
        height=SIZE[0],
        width=SIZE[1],
        distortion_model=model,
        d=d if d is not None else [0.0] * 5,
        k=K.ravel(),
        p=P.ravel(),
    )


def read(info: CameraInfo, size=SIZE, **options):
    return lens_from_info(info, size, "camera 'left'", "/left/camera_info", **options)


def project(points: np.ndarray, model: str) -> np.ndarray:
    """Published pixels of points, by OpenCV's projection: the reference."""
    d = np.array(LENSES[model])
    if model in ("equidistant", "fisheye"):
        return cv2.fisheye.projectPoints(points[None], np.zeros(3), np.zeros(3), K, d)[0][0]
    return cv2.projectPoints(points, np.zeros(3), np.zeros(3), K, d)[0][:, 0]


def test_lens_pinhole():
    """A pinhole needs nothing."""
    calibration = read(make_info())
    np.testing.assert_array_equal(calibration.K, K)
    assert not calibration.distorted
    assert calibration.pinhole_pixel(3.5, 4.25) == (3.5, 4.25)
    labels = np.arange(SIZE[0] * SIZE[1], dtype=np.int32).reshape(SIZE)
    assert calibration.published_labels(labels) is labels


@pytest.mark.parametrize("model", LENSES)
def test_pinhole_pixel_against_opencv(model):
    """Clicks are carried to the pinhole image."""
    calibration = read(make_info(model, LENSES[model]))
    assert calibration.distorted
    rng = np.random.default_rng(1)
    points = np.column_stack([rng.uniform(-0.4, 0.4, (50, 2)), np.ones(50)])
    expected = points @ K.T
    for published, pinhole in zip(project(points, model), expected, strict=True):
        np.testing.assert_allclose(calibration.pinhole_pixel(*published), pinhole[:2], atol=0.1)


@pytest.mark.parametrize("model", LENSES)
def test_published_labels_round_trip(model):
    """Published image -> pinhole image -> published mask."""
    calibration = read(make_info(model, LENSES[model]))
    disc = np.zeros(SIZE, np.uint8)
    cv2.circle(disc, (110, 40), 15, 1, -1)
    pinhole = calibration.undistort_labels(disc.astype(np.float32))
    again = calibration.published_labels(pinhole.astype(bool))
    assert again.dtype == bool
    union, both = (again | (disc > 0)).sum(), (again & (disc > 0)).sum()
    assert both / union > 0.9
    assert (pinhole > 0).sum() != (disc > 0).sum()


@pytest.mark.parametrize("model", ["plumb_bob", "rational_polynomial"])
def test_lens_from_info_coefficients_of_other_counts(model):
    """Orbbec's plumb_bob has eight coefficients, the last three 0 or not."""
    short = LENSES["plumb_bob"]
    ended, padded = (read(make_info(model, d)) for d in (short, [*short, 0.0, 0.0, 0.0]))
    assert ended.pinhole_pixel(20.0, 30.0) == padded.pinhole_pixel(20.0, 30.0)
    assert ended.pinhole_pixel(20.0, 30.0) != (20.0, 30.0)
    points = np.array([[0.2, -0.1, 1.0]])
    uv = project(points, "rational_polynomial")[0]
    rational = read(make_info(model, LENSES["rational_polynomial"]))
    np.testing.assert_allclose(rational.pinhole_pixel(*uv), (points @ K.T)[0, :2], atol=0.1)


@pytest.mark.parametrize(
    ("model", "same"),
    [
        ("radtan", "plumb_bob"),
        ("Brown_Conrady", "plumb_bob"),
        ("kannala_brandt", "equidistant"),
        ("kannala_brandt4", "equidistant"),
    ],
)
def test_lens_from_info_other_names(model, same):
    """And zeros beyond the coefficients: realsense2_camera gives equidistant five."""
    found = read(make_info(model, [*LENSES[same], 0.0])).pinhole_pixel(20.0, 30.0)
    assert found == read(make_info(same, LENSES[same])).pinhole_pixel(20.0, 30.0)
    assert found != (20.0, 30.0)


def test_lens_from_info_rectified():
    """Rectified images use the projection matrix."""
    calibration = read(make_info("plumb_bob", LENSES["plumb_bob"]), rectified=True)
    np.testing.assert_array_equal(calibration.K, [[100, 0, 80], [0, 100, 60], [0, 0, 1]])
    assert not calibration.distorted


def test_lens_from_info_binning_and_roi():
    """Binning and region of interest."""
    info = make_info()
    info.binning_x = info.binning_y = 2
    expected = [[70, 0, 39.5], [0, 71, 30.5], [0, 0, 1]]
    np.testing.assert_array_equal(read(info, (60, 80)).K, expected)
    info = make_info()
    info.roi.x_offset, info.roi.y_offset, info.roi.width, info.roi.height = 20, 10, 100, 90
    expected = [[140, 0, 59], [0, 142, 51], [0, 0, 1]]
    np.testing.assert_array_equal(read(info, (90, 100)).K, expected)


def test_lens_from_info_without_size():
    """Drivers that leave the size out."""
    info = make_info()
    info.width = info.height = 0
    np.testing.assert_array_equal(read(info, (48, 64)).K, K)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            {"k": np.zeros(9), "p": np.zeros(12)},
            ["not calibrated", "K has the focal lengths 0 and 0"],
        ),
        (
            {"k": np.zeros(9)},
            ["K is zero but P holds", "set the camera's 'rectified' to true, if its images are r"],
        ),
        ({"width": 1280, "height": 720}, ["1280x720", "160x120"]),
        ({"distortion_model": "telecentric", "d": [0.1]}, ["'telecentric'", "plumb_bob"]),
        ({"d": [0.1, 0.2]}, ["4 or 5 or 8 or 12 or 14", "[0.1, 0.2]"]),
        ({"d": [0.1, 0.2, 0.0, float("nan")]}, ["finite"]),
        ({"distortion_model": "equidistant", "d": [0.1] * 5}, ["takes 4 "]),
    ],
)
def test_lens_from_info_unusable(change, words):
    """Calibrations that cannot be used."""
    info = make_info()
    for field, value in change.items():
        setattr(info, field, value)
    with pytest.raises(InputError) as refused:
        read(info)
    assert refused.value.code == ErrorCode.BAD_CALIBRATION
    for word in ["camera 'left'", "/left/camera_info", *words]:
        assert word in str(refused.value)


def test_lens_from_info_rectified_without_P():
    """The other way round: a driver that fills K alone, taken for rectified."""
    info = make_info()
    info.p = np.zeros(12)
    with pytest.raises(
        InputError, match=r"P is zero but K holds .* 'rectified' to false, if .* not"
    ):
        read(info, rectified=True)
    np.testing.assert_array_equal(read(info).K, K)


@pytest.mark.parametrize("model", LENSES)
def test_pinhole_box_curved_edges(model):
    """The bounds of every pixel of the edges, to a pixel."""
    lens = read(make_info(model, LENSES[model]))
    u0, v0, u1, v1 = 30.0, 20.0, 130.0, 100.0
    rim = [(u, v) for u in np.linspace(u0, u1, 101) for v in (v0, v1)]
    rim += [(u, v) for u in (u0, u1) for v in np.linspace(v0, v1, 101)]
    moved = np.array([lens.pinhole_pixel(*uv) for uv in rim])
    expected = [*moved.min(axis=0), *moved.max(axis=0)]
    np.testing.assert_allclose(lens.pinhole_box(u0, v0, u1, v1), expected, atol=1.0)
    assert read(make_info()).pinhole_box(-5.0, 1.0, 7.0, 9.0) == (-5.0, 1.0, 7.0, 9.0)


@pytest.mark.parametrize("model", LENSES)
def test_published_labels_of_points(model):
    """Points lie at the published pixels as labels do, and are NaN where those show nothing."""
    lens = read(make_info(model, LENSES[model]))
    number = np.arange(1, SIZE[0] * SIZE[1] + 1, dtype=np.float64).reshape(SIZE)
    rows = lens.published_labels(number).astype(int)
    points = np.random.default_rng(0).normal(size=(*SIZE, 3)).astype(np.float32)
    expected = np.concatenate([np.full((1, 3), np.nan, np.float32), points.reshape(-1, 3)])[rows]
    np.testing.assert_array_equal(lens.published_labels(points, np.nan), expected)
