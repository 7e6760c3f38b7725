"""Constructed scenes as folders in the layouts of other projects."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from wildseg3d_ros.core.geometry.transforms import invert, quaternion_from_rotation
from wildseg3d_ros.core.types import View
from wildseg3d_ros.io.folder import write_folder
from wildseg3d_testing.scenes import ConstructedScene

START_NS = 1_311_868_164_363_181_000
"""Stamp of the first image where a layout has stamps."""


def picture(path: Path, array: NDArray) -> None:
    """Writes an image, RGB or of one channel."""
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), array[..., ::-1] if array.ndim == 3 else array)


def write_nerfstudio(folder: Path, truth: ConstructedScene) -> None:
    """transforms.json, in steps of 0.1 mm."""
    write_folder(folder, truth.recording(), depth_unit=1e-4)


def write_apc(folder: Path, truth: ConstructedScene) -> None:
    """The Amazon Picking Challenge's."""
    info = ["# Environment: shelf", '# Objects: ["a","b"]', ""]
    info += ["# Color camera intrinsic matrix", _rows(_intrinsics(truth.views[0])), ""]
    info += ["# Bin-to-world transformation matrix", _rows(np.eye(4)), ""]
    for i, view in enumerate(truth.views):
        name = f"frame-{i:06d}"
        title = f"# Camera-to-world extrinsic matrix (camera pose) for {name}"
        info += [title, _rows(_pose(view)), ""]
        # Rotated left by three bits, written out bit by bit.
        steps = np.rint(_depth(view) * 10000).astype(int)
        rotated = np.zeros_like(steps)
        for bit in range(16):
            rotated |= ((steps >> bit) & 1) << ((bit + 3) % 16)
        picture(folder / f"{name}.color.png", view.image)
        picture(folder / f"{name}.depth.png", rotated.astype(np.uint16))
        picture(folder / "segm" / f"{name}.segm.png", truth.labels[i].astype(np.uint8))
    (folder / "cam.info.txt").write_text("\n".join(info))


def write_middlebury(folder: Path, truth: ConstructedScene) -> None:
    """Images and made_par.txt."""
    lines = [str(len(truth.views))]
    for view in truth.views:
        pose = invert(_pose(view))
        numbers = [*_intrinsics(view).ravel(), *pose[:3, :3].ravel(), *pose[:3, 3]]
        lines.append(" ".join([f"{view.name}.png", *(f"{x:.17g}" for x in numbers)]))
        picture(folder / f"{view.name}.png", view.image)
    (folder / "made_par.txt").write_text("\n".join(lines) + "\n")


def write_mvsnet(folder: Path, truth: ConstructedScene) -> None:
    """cams/ and images/."""
    (folder / "cams").mkdir(parents=True)
    for i, view in enumerate(truth.views):
        pose = invert(_pose(view))
        text = f"extrinsic\n{_rows(pose)}\n\nintrinsic\n{_rows(_intrinsics(view))}\n\n0.5 0.01\n"
        (folder / "cams" / f"{i:08d}_cam.txt").write_text(text)
        picture(folder / "images" / f"{i:08d}.png", view.image)


def write_dtu(folder: Path, truth: ConstructedScene, trained: bool = False) -> None:
    """Rectified/scan1/ in two lights, and Calibration/; or MVSNet's form of it. Millimetres."""
    for i, view in enumerate(truth.views):
        pose, K = invert(_pose(view)), _intrinsics(view)
        pose[:3, 3] *= 1000
        place, path = (
            folder / "Rectified" / "scan1",
            folder / f"Calibration/cal18/pos_{i + 1:03d}.txt",
        )
        text = _rows(-2.0 * K @ pose[:3])  # of any factor
        if trained:
            place, path = folder / "Rectified" / "scan1_train", folder / f"Cameras/{i:08d}_cam.txt"
            text = f"extrinsic\n{_rows(pose)}\n\nintrinsic\n{_rows(K)}\n\n425.0 2.5\n"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        for light, image in (("0_r5000", view.image // 2), ("3_r5000", view.image)):
            picture(place / f"rect_{i + 1:03d}_{light}.png", image)


def write_dtu_trained(folder: Path, truth: ConstructedScene) -> None:
    """As MVSNet's authors distribute it."""
    write_dtu(folder, truth, trained=True)


def write_llff(folder: Path, truth: ConstructedScene) -> None:
    """poses_bounds.npy; one focal length, and the axis through the middle of the image."""
    rows = []
    for view in truth.views:
        right, down, forward, position = _pose(view)[:3].T
        columns = [down, right, -forward, position, [*view.size, _intrinsics(view)[0, 0]]]
        rows.append([*np.stack(columns, axis=1).ravel(), 0.5, 3.0])
        picture(folder / "images" / f"{view.name}.png", view.image)
    np.save(folder / "poses_bounds.npy", np.array(rows))


def write_colmap(folder: Path, truth: ConstructedScene, binary: bool = True) -> None:
    """sparse/0 and images/; images are listed in another order than that of their names."""
    place = folder / "sparse" / "0"
    place.mkdir(parents=True)
    cameras, images, text_cameras, text_images = b"", b"", ["# cameras"], ["# images"]
    for number, view in reversed(list(enumerate(truth.views, start=1))):
        height, width = view.size
        K = _intrinsics(view).copy()
        K[:2, 2] += 0.5  # of a pixel whose corner is at 0
        values = K[0, 0], K[1, 1], K[0, 2], K[1, 2]
        pose = invert(_pose(view))
        x, y, z, w = quaternion_from_rotation(pose[:3, :3])
        name = f"{view.name}.png"
        picture(folder / "images" / name, view.image)
        cameras += struct.pack("<iiQQ4d", number, 1, width, height, *values)
        images += struct.pack("<I7di", number, w, x, y, z, *pose[:3, 3], number)
        images += name.encode() + b"\0" + struct.pack("<Q2d2q", 1, 3.0, 4.0, -1, 0)[:32]
        numbers = " ".join(f"{v:.17g}" for v in values)
        text_cameras.append(f"{number} PINHOLE {width} {height} {numbers}")
        numbers = " ".join(f"{v:.17g}" for v in (w, x, y, z, *pose[:3, 3]))
        text_images += [f"{number} {numbers} {number} {name}", "" if number % 2 else "3 4 -1"]
    if binary:
        count = struct.pack("<Q", len(truth.views))
        (place / "cameras.bin").write_bytes(count + cameras)
        (place / "images.bin").write_bytes(count + images)
    else:
        (place / "cameras.txt").write_text("\n".join(text_cameras) + "\n")
        (place / "images.txt").write_text("\n".join(text_images) + "\n")


def write_colmap_text(folder: Path, truth: ConstructedScene) -> None:
    """The same as text."""
    write_colmap(folder, truth, binary=False)


def write_bop(folder: Path, truth: ConstructedScene) -> None:
    """A scene in millimetres; two of the objects are of one kind, and lists differ in order."""
    cameras, listed = {}, {}
    for i, view in enumerate(truth.views):
        pose = invert(_pose(view))
        cameras[str(i)] = {
            "cam_K": _intrinsics(view).ravel().tolist(),
            "depth_scale": 0.1,
            "cam_R_w2c": pose[:3, :3].ravel().tolist(),
            "cam_t_w2c": (pose[:3, 3] * 1000).tolist(),
        }
        picture(folder / "rgb" / f"{i:06d}.png", view.image)
        steps = np.rint(_depth(view) * 10000).astype(np.uint16)
        picture(folder / "depth" / f"{i:06d}.png", steps)
        labels = np.unique(truth.labels[i])
        order = [int(x) for x in labels if x > 0][:: -1 if i % 2 else 1]
        listed[str(i)] = []
        for place, label in enumerate(order):
            at = pose[:3, :3] @ np.array([0.1 * label, 0, 0]) + pose[:3, 3]
            kind = 1 if label == 2 else label
            entry = {"obj_id": kind, "cam_t_m2c": (at * 1000).tolist()}
            listed[str(i)].append(entry | {"cam_R_m2c": np.eye(3).ravel().tolist()})
            visible = (truth.labels[i] == label).astype(np.uint8) * 255
            picture(folder / "mask_visib" / f"{i:06d}_{place:06d}.png", visible)
    (folder / "scene_camera.json").write_text(json.dumps(cameras))
    (folder / "scene_gt.json").write_text(json.dumps(listed))


def write_scannet(folder: Path, truth: ConstructedScene) -> None:
    """color, depth of half the size by its own intrinsics, pose, intrinsic."""
    for i, view in enumerate(truth.views):
        picture(folder / "color" / f"{i}.png", view.image)
        # Every second pixel: its centre is the centre of a pixel of the colour image.
        steps = np.rint(_depth(view) * 1000).astype(np.uint16)
        picture(folder / "depth" / f"{i}.png", steps[::2, ::2])
        (folder / "pose").mkdir(exist_ok=True)
        (folder / "pose" / f"{i}.txt").write_text(_rows(_pose(view)))
    (folder / "intrinsic").mkdir()
    for name, factor in (("color", 1.0), ("depth", 0.5)):
        K = np.eye(4)
        K[:2, :3] = _intrinsics(truth.views[0])[:2] * factor
        (folder / "intrinsic" / f"intrinsic_{name}.txt").write_text(_rows(K))


def write_tum(folder: Path, truth: ConstructedScene) -> None:
    """rgb.txt, depth.txt and groundtruth.txt; depth 7 ms later, poses at the images' stamps."""
    lists = {"rgb": ["# timestamp filename"], "depth": ["# timestamp filename"]}
    poses = ["# timestamp tx ty tz qx qy qz qw"]
    for i, view in enumerate(truth.views):
        stamp_ns = START_NS + i * 50_000_000
        steps = np.rint(_depth(view) * 5000).astype(np.uint16)
        for part, late, array in (("rgb", 0, view.image), ("depth", 7_000_000, steps)):
            seconds = _seconds(stamp_ns + late)
            picture(folder / part / f"{seconds}.png", array)
            lists[part].append(f"{seconds} {part}/{seconds}.png")
        pose = _pose(view)
        numbers = [*pose[:3, 3], *quaternion_from_rotation(pose[:3, :3])]
        poses.append(" ".join([_seconds(stamp_ns), *(f"{x:.17g}" for x in numbers)]))
    for name, lines in (*lists.items(), ("groundtruth", poses)):
        (folder / f"{name}.txt").write_text("\n".join(lines) + "\n")
    K = _intrinsics(truth.views[0])
    values = K[0, 0], K[1, 1], K[0, 2], K[1, 2]
    (folder / "calibration.txt").write_text(" ".join(f"{x:.17g}" for x in values))


def write_blender(folder: Path, truth: ConstructedScene) -> None:
    """transforms_train.json: the angle of view of the first camera, the axis through the middle,
    paths without a suffix; and another file for views to test on."""
    frames = []
    for view in truth.views:
        picture(folder / "train" / f"{view.name}.png", view.image)
        pose = _pose(view) @ np.diag([1.0, -1.0, -1.0, 1.0])
        frames.append({"file_path": f"./train/{view.name}", "transform_matrix": pose.tolist()})
    width, focal = truth.views[0].size[1], _intrinsics(truth.views[0])[0, 0]
    meta = {"camera_angle_x": float(2 * np.arctan(width / 2 / focal)), "frames": frames}
    (folder / "transforms_train.json").write_text(json.dumps(meta))
    (folder / "transforms_test.json").write_text(json.dumps({**meta, "frames": frames[:1]}))


WRITERS = {
    "nerfstudio": write_nerfstudio,
    "colmap": write_colmap,
    "colmap text": write_colmap_text,
    "llff": write_llff,
    "bop": write_bop,
    "scannet": write_scannet,
    "tum": write_tum,
    "middlebury": write_middlebury,
    "mvsnet": write_mvsnet,
    "dtu": write_dtu,
    "dtu of MVSNet": write_dtu_trained,
    "apc": write_apc,
    "blender": write_blender,
}
"""By the format's name, and what it is written as."""


def _intrinsics(view: View) -> NDArray[np.float64]:
    assert view.K is not None
    return view.K


def _pose(view: View) -> NDArray[np.float64]:
    assert view.world_from_cam_prior is not None
    return view.world_from_cam_prior


def _depth(view: View) -> NDArray[np.float32]:
    assert view.depth is not None
    return view.depth


def _seconds(stamp_ns: int) -> str:
    return f"{stamp_ns // 10**9}.{stamp_ns % 10**9:09d}"


def _rows(matrix: NDArray) -> str:
    return "\n".join(" ".join(f"{x: .17g}\t " for x in row) for row in matrix)
