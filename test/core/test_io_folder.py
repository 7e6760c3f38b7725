from __future__ import annotations

import json

import cv2
import numpy as np
import pytest

from wildseg3d_ros.config import SceneConfig
from wildseg3d_ros.core.errors import ErrorCode, FileError, InputError
from wildseg3d_ros.core.progress import Progress
from wildseg3d_ros.core.types import View
from wildseg3d_ros.io.folder import Recording, evenly_spaced, load_folder, write_folder
from wildseg3d_ros.pipeline import build_scene
from wildseg3d_testing.scenes import construct_scene

SIZE = (48, 64)


def png(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), array)


class Folder:
    """A good recording of two views, to be spoilt by a test."""

    def __init__(self, path):
        self.path = path
        rng = np.random.default_rng(0)
        self.bgr = [rng.integers(0, 256, (*SIZE, 3), dtype=np.uint8) for _ in range(2)]
        self.depth = [rng.integers(0, 3000, SIZE).astype(np.uint16) for _ in range(2)]
        self.mask = [rng.integers(0, 4, SIZE).astype(np.uint8) for _ in range(2)]
        frames = []
        for i, name in enumerate(("left", "right")):
            png(path / f"images/{name}.png", self.bgr[i])
            png(path / f"depth/{name}.png", self.depth[i])
            png(path / f"masks/{name}.png", self.mask[i])
            frames.append(
                {
                    "file_path": f"images/{name}.png",
                    "depth_file_path": f"depth/{name}.png",
                    "object_mask_path": f"./masks/{name}.png",
                    "transform_matrix": np.eye(4).tolist(),
                }
            )
        self.meta = {
            "camera_model": "OPENCV",
            "fl_x": 70.0,
            "fl_y": 71.0,
            "cx": 31.0,
            "cy": 23.5,
            "w": SIZE[1],
            "h": SIZE[0],
            "object_names": {"1": "mug", "3": "box"},
            "frames": frames,
        }

    @property
    def frame(self):
        return self.meta["frames"][1]

    def load(self, **arguments):
        (self.path / "transforms.json").write_text(json.dumps(self.meta))
        return load_folder(self.path, **arguments)


@pytest.fixture
def folder(tmp_path):
    return Folder(tmp_path)


def test_load_folder_reads_what_nerfstudio_defines(folder):
    # A camera at (1, 2, 3) that looks along the world's +x with z up, in OpenGL axes:
    # its x (right) is the world's -y, its y (up) is z, its z (backwards) is -x.
    folder.frame["transform_matrix"] = [[0, 0, -1, 1], [-1, 0, 0, 2], [0, 1, 0, 3], [0, 0, 0, 1]]
    folder.frame.update({"stamp_ns": 1_700_000_000_123_456_789, "frame_id": "right_optical"})
    recording = folder.load()
    assert [view.name for view in recording.views] == ["left", "right"]
    assert recording.object_names == {1: "mug", 3: "box"}
    view = recording.views[1]
    np.testing.assert_array_equal(view.image, folder.bgr[1][..., ::-1])
    np.testing.assert_array_equal(view.K, [[70, 0, 31], [0, 71, 23.5], [0, 0, 1]])
    np.testing.assert_allclose(view.depth, folder.depth[1] * 0.001, atol=1e-6)
    np.testing.assert_array_equal(recording.object_masks[1], folder.mask[1])
    assert view.stamp_ns == 1_700_000_000_123_456_789
    assert view.frame_id == "right_optical"
    # OpenCV axes: 5 m ahead, 1 m to the right, 2 m down.
    world = view.world_from_cam_prior @ [1, 2, 5, 1]
    np.testing.assert_allclose(world, [1 + 5, 2 - 1, 3 - 2, 1])
    np.testing.assert_array_equal(
        recording.views[0].world_from_cam_prior, np.diag([1.0, -1, -1, 1])
    )


def test_load_folder_prefers_intrinsics_of_the_frame(folder):
    folder.frame.update({"fl_x": 80.0, "cx": 30.0})
    left, right = folder.load().views
    assert (left.K[0, 0], left.K[0, 2]) == (70, 31)
    assert (right.K[0, 0], right.K[0, 2], right.K[1, 1]) == (80, 30, 71)


def test_load_folder_depth_unit_and_npy(folder):
    folder.meta["depth_unit_scale_factor"] = 0.0001
    np.save(folder.path / "depth/right.npy", folder.depth[1].astype(np.float32))
    folder.frame["depth_file_path"] = "depth/right.npy"
    for view, stored in zip(folder.load().views, folder.depth, strict=True):
        np.testing.assert_allclose(view.depth, stored * 0.0001, atol=1e-6)


def test_load_folder_without_optional_keys(folder):
    for key in ("depth_file_path", "object_mask_path", "transform_matrix"):
        del folder.frame[key]
    for key in ("w", "h", "object_names", "camera_model"):
        del folder.meta[key]
    recording = folder.load()
    assert recording.views[1].depth is None
    assert recording.views[1].world_from_cam_prior is None
    assert recording.object_masks[1] is None
    assert recording.object_masks[0] is not None
    assert recording.object_names == {}


def test_load_folder_pose_of_three_rows_and_missing_suffix(folder):
    folder.frame["transform_matrix"] = np.eye(4)[:3].tolist()
    folder.frame["file_path"] = "images/right"
    view = folder.load().views[1]
    assert view.name == "right"
    np.testing.assert_array_equal(view.world_from_cam_prior, np.diag([1.0, -1, -1, 1]))


def test_load_folder_names_equal_stems_by_their_path(folder):
    for camera in ("cam_a", "cam_b"):
        png(folder.path / camera / "0001.png", folder.bgr[0])
    for frame, camera in zip(folder.meta["frames"], ("cam_a", "cam_b"), strict=True):
        frame["file_path"] = f"./{camera}/0001.png"
    assert [view.name for view in folder.load().views] == ["cam_a_0001", "cam_b_0001"]


def test_load_folder_takes_the_json_file(folder):
    folder.load()
    assert len(load_folder(folder.path / "transforms.json").views) == 2


def test_load_folder_max_views(folder):
    folder.meta["frames"] = []
    for i in range(10):
        png(folder.path / f"images/{i}.png", folder.bgr[0])
        folder.meta["frames"].append({"file_path": f"images/{i}.png"})
    told = []
    progress = Progress(lambda _, fraction: told.append(fraction))
    names = [view.name for view in folder.load(max_views=4, progress=progress).views]
    assert names == ["0", "3", "6", "9"]
    assert told == [0.25, 0.5, 0.75, 1.0]
    assert len(folder.load(max_views=50).views) == 10
    with pytest.raises(InputError, match="max_views must be 1 or more, got 0"):
        folder.load(max_views=0)


@pytest.mark.parametrize("count", [1, 2, 7, 15])
@pytest.mark.parametrize("max_views", [1, 2, 5, None])
def test_evenly_spaced_takes_distinct_items_in_order(count, max_views):
    chosen = evenly_spaced(count, max_views)
    assert len(chosen) == min(count, max_views or count)
    assert chosen == sorted(set(chosen))
    assert set(chosen) <= set(range(count))


# ---- lenses ----------------------------------------------------------------------------------

K = np.array([[70.0, 0, 31.0], [0, 71.0, 23.5], [0, 0, 1]])
POINTS = np.array([[-0.3, -0.2, 1.0], [0.25, 0.15, 1.0], [0.0, 0.22, 1.0], [0.33, -0.25, 1.0]])


def seen_by(model, coefficients):
    """Where OpenCV's own projection puts the points in the distorted image."""
    c = dict.fromkeys(("k1", "k2", "k3", "k4", "p1", "p2"), 0.0) | coefficients
    zero = np.zeros(3)
    if model == "OPENCV":
        dist = np.array([c["k1"], c["k2"], c["p1"], c["p2"], c["k3"]])
        return cv2.projectPoints(POINTS, zero, zero, K, dist)[0].reshape(-1, 2)
    dist = np.array([c["k1"], c["k2"], c["k3"], c["k4"]])
    return cv2.fisheye.projectPoints(POINTS[:, None], zero, zero, K, dist)[0].reshape(-1, 2)


@pytest.mark.parametrize(
    ("model", "coefficients"),
    [
        ("OPENCV", {"k1": -0.4, "k2": 0.1, "p1": 0.01, "p2": -0.008, "k3": 0.02}),
        ("PINHOLE", {}),
        ("OPENCV_FISHEYE", {"k1": -0.3, "k2": 0.05}),
        ("OPENCV_FISHEYE", {}),
    ],
)
def test_load_folder_removes_lens_distortion(folder, model, coefficients):
    distorted = seen_by("OPENCV" if model == "PINHOLE" else model, coefficients)
    scale = 8  # of the drawing, so that spots lie at fractions of a pixel
    size = (SIZE[1] * scale, SIZE[0] * scale)
    image, depth, mask = (np.zeros(size[::-1], np.float32) for _ in range(3))
    for i, (u, v) in enumerate(distorted):
        centre = (round((u + 0.5) * scale), round((v + 0.5) * scale))
        cv2.circle(image, centre, 2 * scale, 255.0, -1)
        cv2.circle(depth, centre, 3 * scale, 1000.0 + i, -1)
        cv2.circle(mask, centre, 3 * scale, 1.0 + i, -1)
    small = cv2.resize(image, SIZE[::-1], interpolation=cv2.INTER_AREA).astype(np.uint8)
    png(folder.path / "images/right.png", cv2.cvtColor(small, cv2.COLOR_GRAY2BGR))
    png(folder.path / "depth/right.png", depth[4::8, 4::8].astype(np.uint16))
    png(folder.path / "masks/right.png", mask[4::8, 4::8].astype(np.uint8))
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
    png(folder.path / "depth/right.png", np.full(SIZE, 1500, np.uint16))
    png(folder.path / "masks/right.png", np.full(SIZE, 2, np.uint8))
    folder.frame.update({"k1": 0.8})  # pincushion: the corners come from outside the image
    recording = folder.load()
    assert recording.views[1].depth[0, 0] == 0
    assert recording.object_masks[1][0, 0] == 255
    assert recording.views[1].depth[24, 31] == pytest.approx(1.5)
    assert recording.object_masks[1][24, 31] == 2


# ---- writing ---------------------------------------------------------------------------------


def test_write_folder_is_read_back(tmp_path):
    scene = construct_scene(views=3, width=64, height=48)
    recording = scene.recording()
    write_folder(tmp_path / "a" / "b", recording)
    again = load_folder(tmp_path / "a" / "b")
    assert again.object_names == recording.object_names
    for one, other in zip(recording.views, again.views, strict=True):
        assert (one.name, one.stamp_ns, one.frame_id) == (
            other.name, other.stamp_ns, other.frame_id,
        )  # fmt: skip
        np.testing.assert_array_equal(one.image, other.image)
        np.testing.assert_array_equal(one.K, other.K)
        np.testing.assert_allclose(one.depth, other.depth, atol=0.5001e-4)
        np.testing.assert_allclose(
            one.world_from_cam_prior, other.world_from_cam_prior, atol=1e-12
        )
    for one, other in zip(recording.object_masks, again.object_masks, strict=True):
        np.testing.assert_array_equal(one, other)


def test_write_folder_large_depth_gets_a_coarser_unit_or_an_error(tmp_path):
    image = np.zeros((4, 5, 3), np.uint8)
    far = Recording((View("a", image, np.eye(3), np.full((4, 5), 20.0, np.float32)),))
    write_folder(tmp_path, far)
    np.testing.assert_allclose(load_folder(tmp_path).views[0].depth, 20.0, atol=1e-3)
    with pytest.raises(InputError, match=r"20.0 m does not fit into 16 bits of 0.0001 m"):
        write_folder(tmp_path, far, depth_unit=1e-4)


def test_load_folder_views_without_intrinsics_beside_others(folder, tmp_path):
    for key in ("fl_x", "fl_y", "cx", "cy"):
        folder.frame[key] = None
    left, right = folder.load().views
    assert left.K is not None
    assert right.K is None
    assert right.depth is not None
    np.testing.assert_array_equal(right.world_from_cam_prior, np.diag([1.0, -1.0, -1.0, 1.0]))
    for key in ("fl_x", "fl_y", "cx", "cy"):
        del folder.meta[key]
    assert [view.K for view in folder.load().views] == [None, None]
    write_folder(tmp_path / "again", Recording((left, right)))
    again = load_folder(tmp_path / "again").views
    np.testing.assert_array_equal(again[0].K, left.K)
    assert again[1].K is None


@pytest.mark.parametrize("backend", ["depth", "stereo"])
def test_build_scene_names_the_view_without_intrinsics(folder, backend):
    for key in ("fl_x", "fl_y", "cx", "cy"):
        folder.frame[key] = None
    config = SceneConfig.from_mapping({"pointmaps": {"backend": backend}})
    with pytest.raises(InputError, match=f"'right' has no intrinsics; the '{backend}'") as error:
        build_scene(folder.load().views, config)
    assert error.value.code == ErrorCode.BAD_CALIBRATION


def test_write_folder_that_cannot_be_written_is_an_error(tmp_path):
    (tmp_path / "file").write_text("in the way")
    recording = Recording((View("a", np.zeros((4, 5, 3), np.uint8), np.eye(3)),))
    with pytest.raises(FileError, match="cannot write"):
        write_folder(tmp_path / "file", recording)


def test_recording_masks_must_match_the_views():
    view = View("a", np.zeros((4, 5, 3), np.uint8))
    with pytest.raises(InputError, match="1 views but 2 object masks"):
        Recording((view,), (None, None))


# ---- plain folders ---------------------------------------------------------------------------


def test_load_folder_plain_gives_uncalibrated_views_in_natural_order(tmp_path):
    image = np.random.default_rng(0).integers(0, 256, (*SIZE, 3), dtype=np.uint8)
    for name in ("view10.png", "view9.JPG", "view1.png"):
        png(tmp_path / name, image)
    png(tmp_path / "view1.depth.png", np.ones(SIZE, np.uint16))
    (tmp_path / "notes.txt").write_text("not an image")
    png(tmp_path / ".hidden.png", image)
    recording = load_folder(tmp_path)
    assert [view.name for view in recording.views] == ["view1", "view9", "view10"]
    view = recording.views[0]
    np.testing.assert_array_equal(view.image, image[..., ::-1])
    assert view.K is None
    assert view.depth is None
    assert view.world_from_cam_prior is None
    assert [v.name for v in load_folder(tmp_path, max_views=2).views] == ["view1", "view10"]


# ---- what can be wrong -----------------------------------------------------------------------


def test_load_folder_missing_empty_or_without_images(tmp_path):
    with pytest.raises(FileError, match="does not exist; expected a folder"):
        load_folder(tmp_path / "none")
    (tmp_path / "file").write_text("")
    with pytest.raises(FileError, match="is a file; expected a folder"):
        load_folder(tmp_path / "file")
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileError, match=r"is empty; expected transforms.json or images") as caught:
        load_folder(tmp_path / "empty")
    assert caught.value.code == ErrorCode.NO_IMAGES
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "readme.txt").write_text("")
    with pytest.raises(FileError, match=r"holds neither .*it holds: readme.txt") as caught:
        load_folder(tmp_path / "other")
    assert caught.value.code == ErrorCode.NO_IMAGES


def test_load_folder_malformed_json(folder):
    folder.load()
    for text, message in (("{", "not readable JSON"), ("[1]", "holds a list")):
        (folder.path / "transforms.json").write_text(text)
        with pytest.raises(FileError, match=message):
            load_folder(folder.path)


@pytest.mark.parametrize(
    ("change", "message", "code"),
    [
        (lambda m: m.pop("frames"), "needs a list 'frames'", ErrorCode.BAD_FILE),
        (lambda m: m.update(frames={}), "needs a list 'frames'", ErrorCode.BAD_FILE),
        (lambda m: m.update(frames=[]), "lists no frames", ErrorCode.NO_IMAGES),
        (lambda m: m["frames"][1].pop("file_path"), "frame 1 has no 'file_path'",
         ErrorCode.BAD_FILE),
        (lambda m: m["frames"][1].update(file_path="images/lost.png"),
         "names 'images/lost.png', which does not exist", ErrorCode.BAD_FILE),
        (lambda m: m["frames"][1].update(file_path="images/left.png"),
         "two frames give the camera name 'images_left'", ErrorCode.BAD_IMAGE),
        (lambda m: m.pop("fl_x"), "has no fl_x, neither for this frame nor for all",
         ErrorCode.BAD_CALIBRATION),
        (lambda m: m.update(fl_x=0), "positive focal lengths", ErrorCode.BAD_CALIBRATION),
        (lambda m: m.update(fl_x="70"), "'fl_x' must be a number, got '70'", ErrorCode.BAD_FILE),
        (lambda m: m.update(cx=None), "has no cx, neither.*all four intrinsics.*or none of them",
         ErrorCode.BAD_CALIBRATION),
        (lambda m: [m.update(dict.fromkeys(("fl_x", "fl_y", "cx", "cy"))), m.update(k1=0.1)],
         r"lens is said to distort \(OPENCV\), but has no intrinsics", ErrorCode.BAD_CALIBRATION),
        (lambda m: m.update(w=1280, h=960), "are for 1280x960 pixels but the image is 64x48",
         ErrorCode.BAD_CALIBRATION),
        (lambda m: m.update(camera_model="EQUIRECTANGULAR"),
         "unknown camera_model 'EQUIRECTANGULAR'", ErrorCode.BAD_CALIBRATION),
        (lambda m: m.update(k4=0.1), "camera_model OPENCV has no coefficient k4",
         ErrorCode.BAD_CALIBRATION),
        (lambda m: m["frames"][1].update(transform_matrix=[[1, 0], [0, 1]]), "must be 4x4 numbers",
         ErrorCode.BAD_CALIBRATION),
        (lambda m: m["frames"][1].update(transform_matrix="here"), "must be 4x4 numbers",
         ErrorCode.BAD_CALIBRATION),
        (lambda m: m["frames"][1].update(transform_matrix=np.diag([2.0, 2, 2, 1]).tolist()),
         "not a rotation", ErrorCode.BAD_CALIBRATION),
        (lambda m: m["frames"][1].update(stamp_ns=1.5), "must be integer nanoseconds",
         ErrorCode.BAD_FILE),
        (lambda m: m.update(object_names=["mug"]), "object_names maps labels to names",
         ErrorCode.BAD_FILE),
        (lambda m: m.update(depth_unit_scale_factor=0), "must be positive, got 0",
         ErrorCode.BAD_DEPTH),
    ],
)  # fmt: skip
def test_load_folder_names_bad_metadata(folder, change, message, code):
    change(folder.meta)
    with pytest.raises((FileError, InputError), match=message) as caught:
        folder.load()
    assert caught.value.code == code


@pytest.mark.parametrize(
    ("file", "array", "message", "code"),
    [
        ("depth/right.png", np.ones((24, 32), np.uint16),
         "camera 'right': depth is 32x24 but the image is 64x48", ErrorCode.BAD_DEPTH),
        ("depth/right.png", np.ones((48, 64, 3), np.uint8), "must be one channel of 16-bit",
         ErrorCode.BAD_DEPTH),
        ("masks/right.png", np.ones((24, 32), np.uint8),
         "camera 'right': object mask is 32x24 but the image is 64x48", ErrorCode.BAD_IMAGE),
        ("masks/right.png", np.ones((48, 64, 3), np.uint8), "not colours", ErrorCode.BAD_IMAGE),
    ],
)  # fmt: skip
def test_load_folder_images_that_do_not_fit(folder, file, array, message, code):
    png(folder.path / file, array)
    with pytest.raises(InputError, match=message) as caught:
        folder.load()
    assert caught.value.code == code


@pytest.mark.parametrize("file", ["images/right.png", "depth/right.png", "masks/right.png"])
@pytest.mark.parametrize("content", [b"", b"not an image", None])
def test_load_folder_names_unreadable_images(folder, file, content):
    path = folder.path / file
    path.write_bytes(path.read_bytes()[:60] if content is None else content)
    with pytest.raises(FileError, match="cannot read image") as caught:
        folder.load()
    assert str(path) in str(caught.value)


def test_load_folder_names_a_broken_npy_depth(folder):
    (folder.path / "depth/right.npy").write_bytes(b"\x93NUMPY")
    folder.frame["depth_file_path"] = "depth/right.npy"
    with pytest.raises(FileError, match=r"cannot read depth .*right.npy"):
        folder.load()
