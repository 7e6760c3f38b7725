from __future__ import annotations

import json
import os

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


# ---- what apps and other tools write ---------------------------------------------------------


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


def test_load_folder_windows_paths(folder):
    for frame in folder.meta["frames"]:
        for key in ("file_path", "depth_file_path", "object_mask_path"):
            frame[key] = frame[key].replace("/", "\\")
    recording = folder.load()
    assert [view.name for view in recording.views] == ["left", "right"]
    assert recording.views[1].depth is not None
    assert recording.warnings == ()


def test_load_folder_is_fisheye(folder):
    folder.meta.update(k1=-0.3, k2=0.05, camera_model="OPENCV_FISHEYE")
    expected = folder.load().views[0].image
    del folder.meta["camera_model"]
    assert not np.array_equal(folder.load().views[0].image, expected)
    folder.meta["is_fisheye"] = True
    np.testing.assert_array_equal(folder.load().views[0].image, expected)
    folder.meta["camera_model"] = "OPENCV"
    with pytest.raises(InputError, match="is_fisheye contradicts camera_model 'OPENCV'"):
        folder.load()


@pytest.mark.parametrize("size", [(24, 32), (16, 21), (96, 128)])
def test_load_folder_depth_of_another_size(folder, size):
    """ARKit's, for one: every pixel has the depth of the one that lies there."""
    steps = np.arange(1, size[0] * size[1] + 1, dtype=np.uint16).reshape(size)
    png(folder.path / "depth/right.png", steps)
    depth = np.rint(folder.load().views[1].depth * 1000).astype(int)
    v, u = np.mgrid[: SIZE[0], : SIZE[1]]
    row, column = (v + 0.5) * size[0] / SIZE[0] - 0.5, (u + 0.5) * size[1] / SIZE[1] - 0.5
    found_row, found_column = np.divmod(depth - 1, size[1])
    assert np.abs(found_row - row).max() <= 0.51
    assert np.abs(found_column - column).max() <= 0.51


def test_load_folder_rounded_matrix(folder):
    """Three decimals are a rotation to 0.1 degrees; it is brought back to one."""
    rng = np.random.default_rng(2)
    for _ in range(20):
        pose = np.eye(4)
        exact = np.linalg.qr(rng.normal(size=(3, 3)))[0]
        exact *= np.linalg.det(exact)
        pose[:3, :3] = np.round(exact, 3)
        folder.frame["transform_matrix"] = pose.tolist()
        found = folder.load().views[1].world_from_cam_prior[:3, :3] @ np.diag([1, -1, -1])
        np.testing.assert_allclose(found @ found.T, np.eye(3), atol=1e-12)
        np.testing.assert_allclose(found, exact, atol=2e-3)
    pose[0, 0] += 0.01
    folder.frame["transform_matrix"] = pose.tolist()
    with pytest.raises(InputError, match="not a rotation"):
        folder.load()


@pytest.mark.parametrize(
    ("key", "meant"),
    [
        ("integer_depth_scale", "depth_unit_scale_factor"),
        ("depth_scale", "depth_unit_scale_factor"),
        ("depth_unit_scale_facter", "depth_unit_scale_factor"),
        ("depth_path", "depth_file_path"),
        ("c2w", "transform_matrix"),
        ("transfrom_matrix", "transform_matrix"),
        ("intrinsics", "fl_x"),
        ("Fl_x", "fl_x"),
    ],
)
def test_load_folder_names_a_key_that_is_not_read(folder, key, meant):
    folder.meta.pop(meant, None)
    folder.frame.pop(meant, None)
    folder.meta["frames"][0].pop(meant, None)
    for known in ("fl_x", "fl_y", "cx", "cy") if meant == "fl_x" else ():
        folder.meta.pop(known, None)
    folder.frame[key] = 1
    (warning,) = folder.load().warnings
    assert f"a key '{key}', which is not read (did you mean '{meant}'?)" in warning


def test_load_folder_keys_that_say_nothing_of_views(folder):
    folder.meta.update(aabb_scale=16, ply_file_path="sparse.ply", applied_transform=[[1]], my=1)
    folder.frame.update(colmap_im_id=3, sharpness=20.5)
    assert folder.load().warnings == ()


def rotated_jpeg(image, orientation):
    """A JPEG with an EXIF orientation, as phones write it."""
    data = cv2.imencode(".jpg", image)[1].tobytes()
    tiff = b"MM\x00*\x00\x00\x00\x08\x00\x01\x01\x12\x00\x03\x00\x00\x00\x01"
    exif = b"Exif\x00\x00" + tiff + bytes([0, orientation, 0, 0, 0, 0, 0, 0])
    return data[:2] + b"\xff\xe1" + (len(exif) + 2).to_bytes(2, "big") + exif + data[2:]


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_load_folder_exif_orientation(folder, orientation):
    """Applied where only the rotated image has the size of the intrinsics; else it is named."""
    smooth = cv2.GaussianBlur(folder.bgr[1], (0, 0), 5)
    path = folder.path / "images/right.jpg"
    path.write_bytes(rotated_jpeg(smooth, orientation))
    folder.frame.update(file_path="images/right.jpg")
    recording = folder.load()
    assert recording.views[1].size == SIZE
    assert ("EXIF orientation 3" in "".join(recording.warnings)) == (orientation == 3)
    if orientation < 5:
        return
    folder.frame.update(w=48, h=64)
    for key in ("depth_file_path", "object_mask_path"):
        folder.frame.pop(key)
    view = folder.load().views[1]
    assert view.size == (64, 48)
    turn = {6: cv2.ROTATE_90_CLOCKWISE, 8: cv2.ROTATE_90_COUNTERCLOCKWISE}[orientation]
    upright = cv2.rotate(smooth, turn)[..., ::-1]
    assert np.abs(view.image.astype(int) - upright).mean() < 4


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"\x00\x00\x00\x18ftypheic" + bytes(40), "HEIC or AVIF"),
        (b"\x76\x2f\x31\x01" + bytes(40), "OpenEXR"),
        (b"GIF89a" + bytes(40), "GIF"),
        (b"\x00\x00\x00\x0cjP  " + bytes(40), "JPEG 2000"),
        (b"\x00\x00\x00\x0cJXL " + bytes(40), "JPEG XL"),
        (b"#?RADIANCE" + bytes(40), "Radiance HDR"),
        (b"Pf\n4 4\n" + bytes(40), "PFM"),
        (b"version https://git-lfs.github.com/spec/v1\n", "git LFS"),
    ],
)
def test_load_folder_names_formats_that_are_not_read(folder, content, what):
    (folder.path / "images/right.png").write_bytes(content)
    with pytest.raises(FileError, match=rf"right.png': it is .*{what}.*, which is not read"):
        folder.load()


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".bmp", ".tiff", ".webp", ".ppm"])
def test_load_folder_image_formats(folder, suffix):
    smooth = cv2.GaussianBlur(folder.bgr[1], (0, 0), 5)
    png(folder.path / f"images/right{suffix}", smooth)
    folder.frame["file_path"] = f"images/right{suffix}"
    found = folder.load().views[1].image
    assert np.abs(found.astype(int) - smooth[..., ::-1]).mean() < 3


def many(folder, count=5):
    folder.meta["frames"] = []
    for i in range(count):
        png(folder.path / f"images/{i}.png", folder.bgr[0])
        folder.meta["frames"].append({"file_path": f"images/{i}.png"})


def test_load_folder_leaves_out_a_bad_frame_of_many(folder):
    many(folder)
    path = folder.path / "images/2.png"
    path.write_bytes(path.read_bytes()[:500])
    folder.meta["frames"][3]["transform_matrix"] = "here"
    recording = folder.load()
    assert [view.name for view in recording.views] == ["0", "1", "4"]
    first, second = recording.warnings
    assert first.startswith("one of 5 frames was left out: cannot read image")
    assert str(path) in first
    assert "camera '3': transform_matrix" in second
    assert recording.object_masks == (None,) * 3
    with pytest.raises(FileError, match=r"cannot read image .*2.png"):
        folder.load(strict=True)
    (folder.path / "images/0.png").unlink()
    with pytest.raises(FileError, match=r"names 'images/0.png', which does not exist"):
        folder.load()


def test_load_folder_plain_names_what_it_leaves_out(tmp_path):
    image = np.random.default_rng(0).integers(0, 256, (*SIZE, 3), dtype=np.uint8)
    for name in ("a.png", "b.png", "c.jpg"):
        png(tmp_path / name, image)
    png(tmp_path / "depth.png", np.ones(SIZE, np.uint16))
    (tmp_path / "IMG.HEIC").write_bytes(b"\x00\x00\x00\x18ftypheic" + bytes(40))
    (tmp_path / "notes.txt").write_text("none")
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "gone.png").symlink_to("nowhere.png")
    os.mkfifo(tmp_path / "pipe.png")
    recording = load_folder(tmp_path)
    assert [view.name for view in recording.views] == ["a", "b", "c"]
    (warning,) = recording.warnings
    for part in (
        "IMG.HEIC (it is HEIC or AVIF",
        "depth.png (16 bits of one channel: depth or labels)",
        "folder.png (it is there and no file)",
        "gone.png (No such file",
        "notes.txt (no image) and 1 more",
    ):
        assert part in warning
    (tmp_path / "b.png").write_bytes(b"\x89PNG")
    assert "one of 3 frames was left out" in load_folder(tmp_path).warnings[1]
    with pytest.raises(FileError, match=r"b.png"):
        load_folder(tmp_path, strict=True)


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
        ("depth/right.png", np.ones((24, 40), np.uint16),
         "camera 'right': depth is 40x24 but the image is 64x48", ErrorCode.BAD_DEPTH),
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
