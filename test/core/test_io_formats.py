"""Folders in the layouts of other projects: one contract over all of them, and what is missing."""

from __future__ import annotations

import io
import json
import shutil

import cv2
import numpy as np
import pytest

from wildseg3d_ros.cli import main
from wildseg3d_ros.core.errors import ConfigError, ErrorCode, FileError, InputError
from wildseg3d_ros.io.folder import load_folder
from wildseg3d_ros.io.formats.apc import OBJECT_NAMES
from wildseg3d_ros.io.formats.choosing import FORMATS
from wildseg3d_testing.layouts import START_NS, WRITERS, picture
from wildseg3d_testing.scenes import construct_scene

WITH_DEPTH = {"nerfstudio": 0.51e-4, "apc": 0.51e-4, "bop": 0.51e-4, "tum": 1.01e-4}
"""And by how much depth is rounded."""
WITH_MASKS = {"nerfstudio", "apc", "bop"}
UNSCALED = {"colmap", "colmap text", "llff", "mvsnet", "blender"}


@pytest.fixture(scope="module")
def truth():
    return construct_scene(views=3, width=64, height=48)


@pytest.fixture(scope="module")
def written(truth, tmp_path_factory):
    """A folder of each layout."""
    place = tmp_path_factory.mktemp("layouts")
    folders = {}
    for name, write in WRITERS.items():
        folders[name] = place / name.replace(" ", "_")
        folders[name].mkdir()
        write(folders[name], truth)
    return folders


def test_every_format_is_under_the_contract():
    assert {name.split()[0] for name in WRITERS} == {"nerfstudio", *FORMATS}


@pytest.mark.parametrize("name", WRITERS)
def test_load_folder_gives_the_scene_whatever_its_layout(name, truth, written):
    recording = load_folder(written[name])
    assert recording.format
    assert recording.metric == (name not in UNSCALED)
    assert any("arbitrary scale" in text for text in recording.warnings) == (name in UNSCALED)
    assert len(recording.views) == 3
    for view, true, mask, labels in zip(
        recording.views, truth.views, recording.object_masks, truth.labels, strict=True
    ):
        np.testing.assert_array_equal(view.image, true.image)
        np.testing.assert_allclose(view.K, true.K, rtol=1e-9, atol=1e-9)
        np.testing.assert_allclose(view.world_from_cam_prior, true.world_from_cam_prior, atol=1e-9)
        if name in WITH_DEPTH:
            np.testing.assert_allclose(view.depth, true.depth, atol=WITH_DEPTH[name])
        elif name != "scannet":
            assert view.depth is None
        if name in WITH_MASKS:
            same_regions(mask, labels)
        else:
            assert mask is None


def same_regions(mask, labels):
    """The same pixels belong together, under whatever number."""
    pairs = {(int(a), int(b)) for a, b in zip(mask.ravel(), labels.ravel(), strict=True)}
    assert len(pairs) == len({a for a, _ in pairs}) == len({b for _, b in pairs})
    assert (0, 0) in pairs


def test_load_folder_bop_gives_an_instance_one_label_in_all_views(truth, written):
    recording = load_folder(written["bop"])
    pairs = {
        (int(a), int(b))
        for mask, labels in zip(recording.object_masks, truth.labels, strict=True)
        for a, b in zip(mask.ravel(), labels.ravel(), strict=True)
    }
    assert len(pairs) == len({a for a, _ in pairs}) == len({b for _, b in pairs})
    assert {"object 1", "object 1 (2)", "object 3"} <= set(recording.object_names.values())


def test_load_folder_scannet_registers_smaller_depth(truth, written):
    for view, true in zip(load_folder(written["scannet"]).views, truth.views, strict=True):
        # The depth camera's pixels have their centres at every second pixel of colour.
        np.testing.assert_allclose(view.depth[::2, ::2], true.depth[::2, ::2], atol=0.51e-3)
        # A pixel between has the depth of a neighbour.
        ahead = np.roll(view.depth[::2], -1, axis=1)[:, 1:-2:2]
        between = view.depth[::2, 1:-2:2]
        behind = view.depth[::2, 0:-3:2]
        assert (np.isin(between, ahead) | (between == behind)).all()


def test_load_folder_tum_has_stamps_and_interpolates_poses(truth, written, tmp_path):
    recording = load_folder(written["tum"])
    assert [view.stamp_ns for view in recording.views] == [
        START_NS + i * 50_000_000 for i in range(3)
    ]
    folder = tmp_path / "tum"
    shutil.copytree(written["tum"], folder)
    lines = (folder / "groundtruth.txt").read_text().splitlines()
    del lines[2]  # the pose of the second image lies between those of the others
    (folder / "groundtruth.txt").write_text("\n".join(lines))
    middle = load_folder(folder).views[1].world_from_cam_prior
    first, _, last = (view.world_from_cam_prior for view in truth.views)
    np.testing.assert_allclose(middle[:3, 3], (first[:3, 3] + last[:3, 3]) / 2, atol=1e-9)
    (folder / "calibration.txt").unlink()
    with pytest.raises(FileError, match="no calibration.txt .* images of 64x48"):
        load_folder(folder, strict=True)


def test_load_folder_colmap_resized_images(truth, written, tmp_path):
    folder = tmp_path / "scene"
    shutil.copytree(written["colmap"], folder)
    shutil.rmtree(folder / "images")
    for view in truth.views:
        picture(folder / "images_2" / f"{view.name}.png", view.image[::2, ::2])
    view = load_folder(folder).views[0]
    # The corner of the image stays the corner: 0.5 pixels before the first centre.
    expected = (truth.views[0].K[:2, 2] + 0.5) / 2 - 0.5
    np.testing.assert_allclose(view.K[:2, 2], expected)
    np.testing.assert_allclose(view.K[0, 0], truth.views[0].K[0, 0] / 2)


@pytest.mark.parametrize("model", ["OPENCV 64 48 70 71 32 24 0.1 0 0 0", "FOV 64 48 1 1 1 1 1"])
def test_load_folder_colmap_models(model, truth, written, tmp_path):
    folder = tmp_path / "scene"
    shutil.copytree(written["colmap text"], folder)
    lines = [f"{i} {model}" for i in (1, 2, 3)]
    (folder / "sparse/0/cameras.txt").write_text("\n".join(lines))
    if model.startswith("FOV"):
        with pytest.raises(FileError, match="camera model FOV, which is not read.*undistorter"):
            load_folder(folder)
        return
    view = load_folder(folder).views[0]
    np.testing.assert_allclose(view.K, [[70, 0, 31.5], [0, 71, 23.5], [0, 0, 1]])
    assert (view.image != truth.views[0].image).any(), "the lens was not undone"


def test_load_folder_reads_the_real_ones(real_data):
    shelf = load_folder(real_data("apc_shelf"))
    assert len(shelf.views) == 15
    assert shelf.object_names == OBJECT_NAMES
    assert shelf.views[7].K[0, 0] == pytest.approx(615.195, abs=1e-3)
    depths = np.concatenate([view.depth[view.depth > 0] for view in shelf.views])
    assert 0.25 < depths.size / (15 * 480 * 640) < 0.3  # README of the data: 27 % of the pixels
    # The gripper at 0.1 m, the shelf behind it. With the bits as stored, depths would be all over
    # 6.5 m.
    assert 0.3 < np.median(depths) < 0.8
    assert np.percentile(depths, 99) < 1.6
    temple = load_folder(real_data("templeSparseRing"), 2)
    assert [view.name for view in temple.views] == ["templeSR0001", "templeSR0016"]
    assert temple.metric


# ---- which format it is ----------------------------------------------------------------------


def test_load_folder_of_several_formats(written, tmp_path):
    folder = tmp_path / "both"
    shutil.copytree(written["colmap"], folder)
    shutil.copytree(written["llff"], folder, dirs_exist_ok=True)
    assert "LLFF" in load_folder(folder).format, "LLFF is distributed with what it is made from"
    assert "COLMAP" in load_folder(folder, format_name="colmap").format
    shutil.copytree(written["bop"], folder, dirs_exist_ok=True)
    with pytest.raises(FileError, match=r"may be an LLFF .* or a BOP .*--format llff\|bop"):
        load_folder(folder)
    shutil.copy(written["nerfstudio"] / "transforms.json", folder)
    with pytest.raises(ConfigError, match="no format 'colmp'; the formats are nerfstudio, colmap"):
        load_folder(folder, format_name="colmp")
    shutil.copytree(written["nerfstudio"], folder, dirs_exist_ok=True)
    assert load_folder(folder).format == "nerfstudio"


def test_load_folder_of_no_format_lists_what_was_looked_for(tmp_path):
    (tmp_path / "notes.md").write_text("")
    with pytest.raises(FileError) as caught:
        load_folder(tmp_path)
    assert caught.value.code == ErrorCode.NO_IMAGES
    for text in ("transforms.json", "poses_bounds.npy", "scene_camera.json", "notes.md"):
        assert text in str(caught.value)


FOREIGN = {
    "x.bag": "a bag of ROS 1: .*rosbags-convert",
    "x.r3d": "Record3D: .*ns-process-data",
    "x.mp4": "a video: .*ffmpeg",
    "x.tgz": "an archive: unpack it",
    "scan.ply": "has no images: export",
    "database.db": "COLMAP, which has no poses: .*mapper",
    "keyframes/cameras/1.json": "raw data of Polycam: .*ns-process-data polycam",
    "results/1.jpg traj.txt": "a sequence of Replica: write a transforms.json",
    "test/1/scene_camera.json": "give '.*test/1', which is a BOP scene",
    "deep/transforms.json": "give '.*deep', which is a recording of nerfstudio",
}
"""What is often given, by the files that are there."""


@pytest.mark.parametrize("files", FOREIGN)
def test_load_folder_names_what_is_given_instead(files, tmp_path):
    for name in files.split():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("{}")
    with pytest.raises(FileError, match=FOREIGN[files]):
        load_folder(tmp_path)
    if files[0] == "x":  # the file alone as well
        with pytest.raises(FileError, match=FOREIGN[files]):
            load_folder(tmp_path / files)


def test_load_folder_colmap_in_parts_or_not_fetched(written, tmp_path):
    folder = shutil.copytree(written["colmap text"], tmp_path / "colmap")
    shutil.copytree(folder / "sparse" / "0", folder / "sparse" / "1")
    assert any("in several parts" in told for told in load_folder(folder).warnings)
    pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n"
    (folder / "sparse" / "0" / "cameras.txt").write_text(pointer)
    with pytest.raises(FileError, match="a file of git LFS that was not fetched.*lfs pull"):
        load_folder(folder)


def test_load_folder_mvsnet_tells_of_images_without_a_camera(written, tmp_path):
    folder = shutil.copytree(written["mvsnet"], tmp_path / "scene")
    shutil.copy(folder / "images/00000001.png", folder / "images/00000001_masked.png")
    assert not any("not read" in text for text in load_folder(folder).warnings)
    (folder / "cams" / "00000002_cam.txt").unlink()
    recording = load_folder(folder)
    assert len(recording.views) == 2
    assert any("no file NAME_cam.txt of them: 00000002.png" in s for s in recording.warnings)


def test_load_folder_dtu_one_scan_one_light_and_the_cut_of_mvsnet(written, tmp_path):
    root = shutil.copytree(written["dtu of MVSNet"], tmp_path / "dtu")
    scan = root / "Rectified" / "scan1_train"
    recording = load_folder(scan)
    assert [view.name for view in recording.views] == ["rect_001", "rect_002", "rect_003"]
    assert any("3 of the images" in text for text in recording.warnings)
    shutil.copytree(scan, scan.with_name("scan9_train"))
    with pytest.raises(FileError, match="2 scans, give one of them: Rectified/scan1_train, Rec"):
        load_folder(root)
    for path in scan.iterdir():  # as distributed: the files of Cameras/ and of Cameras/train/
        picture(path, np.zeros((512, 640, 3), np.uint8))
    for path in (root / "Cameras").iterdir():
        extrinsic = path.read_text().partition("intrinsic\n")[0]
        path.write_text(f"{extrinsic}intrinsic\n2892.33 0 823.205\n0 2883.175 619.071\n0 0 1\n")
    train = np.array([[361.54125, 0, 82.900625], [0, 360.396875, 66.383875], [0, 0, 0.25]]) * 4
    for view in load_folder(scan).views:
        np.testing.assert_allclose(view.K, train, atol=0.251)  # which counts from pixels' corners
    (root / "Cameras" / "00000001_cam.txt").unlink()
    with pytest.raises(FileError, match="no camera 2 of 'rect_002' in"):
        load_folder(scan, strict=True)


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    """Scenes of six small frames, the first three of which have no pose to use."""
    truth, root = construct_scene(6, 32, 24, 2), tmp_path_factory.mktemp("many")
    for name in ("scannet", "tum", "nerfstudio"):
        (root / name).mkdir()
        WRITERS[name](root / name, truth)
    for i in range(3):
        (root / "scannet" / "pose" / f"{i}.txt").write_text("-inf " * 16)
    poses = (root / "tum" / "groundtruth.txt").read_text().splitlines()
    (root / "tum" / "groundtruth.txt").write_text("\n".join([poses[0], *poses[4:]]))
    meta = json.loads((file := root / "nerfstudio" / "transforms.json").read_text())
    meta["frames"][0]["transform_matrix"][0][3] = float("nan")
    meta["frames"][1]["file_path"] = "nowhere.png"
    meta["frames"][2]["transform_matrix"] = [[1]]
    file.write_text(json.dumps(meta))
    return root


@pytest.mark.parametrize("name", ["scannet", "tum", "nerfstudio"])
def test_load_folder_chooses_among_frames_that_can_be_used(name, many):
    recording = load_folder(many / name, max_views=2)
    last = load_folder(many / name, max_views=1).views
    assert len(recording.views) == 2 and len(last) == 1
    (said,) = (text for text in recording.warnings if "frames cannot be used" in text)
    assert said.startswith("3 of 6 frames cannot be used, and none of them is chosen: ")
    with pytest.raises((FileError, InputError)):
        load_folder(many / name, max_views=2, strict=True)


# ---- what is missing -------------------------------------------------------------------------

MISSING = {
    ("colmap", "sparse/0/images.bin"): "lacks 'images.bin'",
    ("colmap", "sparse/0/cameras.bin"): "lacks 'cameras.txt'",
    ("colmap", "images"): "lists images as 'cam_0.png', which are in none of 'images'",
    ("colmap text", "sparse/0/cameras.txt"): "lacks 'cameras.txt'",
    ("llff", "images"): "image folder of an LLFF scene .* is missing",
    ("llff", "images/view_1.png"): "poses of 3 images, but .* holds 2",
    ("bop", "scene_camera.json"): "a BOP scene lacks 'scene_camera.json': .* holds",
    ("bop", "rgb"): "image folder of a BOP scene .* is missing",
    ("scannet", "depth"): "ScanNet's layout lacks 'depth'",
    ("scannet", "pose"): "ScanNet's layout lacks 'pose'",
    ("scannet", "intrinsic/intrinsic_depth.txt"): "lacks 'intrinsic_depth.txt'",
    ("tum", "groundtruth.txt"): "a TUM RGB-D sequence lacks 'groundtruth.txt'",
    ("tum", "depth"): "cannot read image",
    ("mvsnet", "images"): "image folder of a scene of MVSNet's layout .* is missing",
    ("mvsnet", "images/00000001.png"): "has no image '00000001'",
    ("dtu", "Calibration/cal18/pos_002.txt"): "has no camera 2 of 'rect_002'",
    ("dtu", "Rectified/scan1"): "has 0 scans",
    ("middlebury", "view_1.png"): "cannot read image",
    ("apc", "frame-000001.depth.png"): "cannot read image",
}


@pytest.mark.parametrize(("name", "part"), MISSING)
def test_load_folder_names_the_missing_part(name, part, truth, written, tmp_path, capsys):
    folder = tmp_path / "scene"
    shutil.copytree(written[name], folder)
    part_path = folder / part.replace("view_1", truth.views[1].name)
    (shutil.rmtree if part_path.is_dir() else type(part_path).unlink)(part_path)
    with pytest.raises((FileError, InputError), match=MISSING[name, part]):
        load_folder(folder, strict=True)
    assert main(["check", str(folder), "--strict", "--quiet"]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def _endless_height(data):
    table = np.load(io.BytesIO(data))
    table[:, 4] = np.inf
    out = io.BytesIO()
    np.save(out, table)
    return out.getvalue()


def _huge_rotation(data):
    """With numbers that LAPACK's decomposition never ends for."""
    words = data.split(b" ")
    words[-12:-3] = [b"1e300", b"-7e299", b"1e-300"] * 3
    return b" ".join(words)


DAMAGED = {
    ("llff", "poses_bounds.npy", _endless_height): "height, width and focal length are .*inf",
    ("middlebury", "made_par.txt", _huge_rotation): "rotation",
    ("colmap", "sparse/0/images.bin", lambda data: data[:100]): "truncated or damaged",
    ("colmap", "sparse/0/cameras.bin", lambda data: data[:20]): "truncated or damaged",
    ("colmap text", "sparse/0/images.txt", lambda data: b"1 2 3\n"): "truncated or damaged",
    ("llff", "poses_bounds.npy", lambda data: data[:-8]): "poses_bounds",
    ("bop", "scene_camera.json", lambda data: data[:-30]): "not readable JSON",
    ("scannet", "pose/1.txt", lambda data: data[:-60]): "must hold 4x4 numbers",
    ("scannet", "pose/1.txt", lambda data: b"-inf " * 16): "tracking was lost",
    ("tum", "groundtruth.txt", lambda data: b"1.0 2 3\n"): "expected a stamp and 7 more, got 2",
    ("mvsnet", "cams/00000001_cam.txt", lambda data: data[:90]): "'intrinsic' and 9",
    ("dtu", "Calibration/cal18/pos_002.txt", lambda data: data[:60]): "must hold 3x4 numbers",
    ("dtu", "Calibration/cal18/pos_002.txt", lambda data: b"0 " * 12): "is no projection matrix",
    ("middlebury", "made_par.txt", lambda data: data[:-40]): "line 4: expected a name and 21",
    ("middlebury", "made_par.txt", lambda data: data.strip().rpartition(b" ")[0] + b" inf"): (
        "expected a finite 4x4 matrix"
    ),
    ("apc", "cam.info.txt", lambda data: data.replace(b"for frame-000001", b"for frame-9")): (
        "no camera pose for frame-000001"
    ),
    ("apc", "cam.info.txt", lambda data: data.replace(b"Color camera", b"Other")): (
        "no 3x3 colour camera intrinsic matrix"
    ),
}


@pytest.mark.filterwarnings("error::RuntimeWarning")
@pytest.mark.parametrize("case", DAMAGED, ids=lambda case: f"{case[0]} {case[1]}")
def test_load_folder_names_the_damaged_part(case, written, tmp_path):
    name, part, damage = case
    folder = tmp_path / "scene"
    shutil.copytree(written[name], folder)
    path = folder / part
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises((FileError, InputError), match=DAMAGED[case]):
        load_folder(folder, strict=True)


def test_load_folder_bop_without_truth(written, tmp_path):
    folder = tmp_path / "scene"
    shutil.copytree(written["bop"], folder)
    (folder / "scene_gt.json").unlink()
    cameras = json.loads((folder / "scene_camera.json").read_text())
    for camera in cameras.values():
        del camera["cam_R_w2c"], camera["cam_t_w2c"]
    (folder / "scene_camera.json").write_text(json.dumps(cameras))
    recording = load_folder(folder)
    assert recording.object_masks == (None, None, None)
    assert all(view.world_from_cam_prior is None for view in recording.views)
    assert "has no scene_gt.json" in recording.warnings[0]


def test_load_folder_bop_in_tiff_and_without_masks(truth, written, tmp_path):
    """As ITODD has images and depth."""
    folder = tmp_path / "scene"
    shutil.copytree(written["bop"], folder)
    (folder / "rgb").rename(folder / "gray")
    for path in [*(folder / "gray").iterdir(), *(folder / "depth").iterdir()]:
        cv2.imwrite(str(path.with_suffix(".tif")), cv2.imread(str(path), cv2.IMREAD_UNCHANGED))
        path.unlink()
    shutil.rmtree(folder / "mask_visib")
    found, expected = load_folder(folder), load_folder(written["bop"])
    for view, other in zip(found.views, expected.views, strict=True):
        np.testing.assert_array_equal(view.depth, other.depth)
        np.testing.assert_array_equal(view.image, other.image)
    assert found.object_masks == (None, None, None)
    assert found.warnings == ("a BOP scene has no mask_visib/, and gives no object masks",)


ALSO_READ = {
    ("scannet", "intrinsic/intrinsic_color.txt"): lambda text: "\n".join(
        " ".join(line.split()[:3]) for line in text.splitlines()[:3]
    ),
    ("tum", "calibration.txt"): lambda text: text + " 0 0 0 0 0",
    ("colmap text", "sparse/0/images.txt"): lambda text: text.replace(" ", "\t"),
}


@pytest.mark.parametrize("case", ALSO_READ, ids="-".join)
def test_load_folder_of_other_writers_of_a_layout(case, written, tmp_path):
    name, part = case
    folder = shutil.copytree(written[name], tmp_path / "scene")
    (folder / part).write_text(ALSO_READ[case]((folder / part).read_text()))
    for view, other in zip(
        load_folder(folder).views, load_folder(written[name]).views, strict=True
    ):
        np.testing.assert_allclose(view.K, other.K)
        np.testing.assert_allclose(view.world_from_cam_prior, other.world_from_cam_prior)
        np.testing.assert_array_equal(view.image, other.image)


def test_load_folder_tum_undoes_a_lens(truth, written, tmp_path):
    folder = shutil.copytree(written["tum"], tmp_path / "scene")
    path = folder / "calibration.txt"
    path.write_text(path.read_text().strip() + " 0.1 0 0 0 0")
    assert (load_folder(folder).views[0].image != truth.views[0].image).any()
    path.write_text(path.read_text() + " 1")
    with pytest.raises(FileError, match=r"fx fy cx cy, and of a lens k1 .* 1x4 or 1x9 numbers"):
        load_folder(folder, strict=True)


def test_load_folder_a_list_of_many_numbers_takes_no_memory(written, tmp_path):
    """Python takes twenty times the bytes of a text for its words."""
    folder = shutil.copytree(written["mvsnet"], tmp_path / "mvsnet")
    for path in sorted((folder / "cams").iterdir())[:2]:
        with path.open("r+b") as file:
            file.truncate(20_000_000)  # a hole, which takes no room on a disk
    with pytest.raises(FileError, match=r"_cam.txt'.*it has 20.0 MB, and at most 16.8 MB"):
        load_folder(folder)
