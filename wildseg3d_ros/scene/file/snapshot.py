"""Scenes as files: one zip of NumPy arrays and a JSON header, without pickle.

The format is described in docs/reference/scenes.md.

Layout: member ``wildseg3d-scene.json`` (format, version, everything that is not an array), image
files ``image/<i>.png``, and arrays ``<name>.npy``; ``map_archive`` has how points and confidences
are stored. The zip's checksums guard every member, and what is
read is checked as a whole.
"""

from __future__ import annotations

import dataclasses
import json
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from wildseg3d_ros import __version__
from wildseg3d_ros.core.errors import FileError, InputError, InvalidScene
from wildseg3d_ros.core.files.arrays import check_claims, opened_zip
from wildseg3d_ros.core.files.pictures import ImageHead, decode_image, image_head
from wildseg3d_ros.core.files.reading import as_path
from wildseg3d_ros.core.files.text import LARGEST_JSON, parse_json
from wildseg3d_ros.core.files.writing import replacing
from wildseg3d_ros.core.types import (
    Alignment,
    CameraVerdict,
    LeftOutView,
    ObjectTree,
    WorldPointmaps,
)
from wildseg3d_ros.scene.file.archive import member, read_array, write_array
from wildseg3d_ros.scene.file.checks import check_tuple, expect
from wildseg3d_ros.scene.file.consistency import (
    ALIGNMENT_ARRAYS,
    Kinds,
    check_cameras,
    check_masks_of,
    check_scene,
)
from wildseg3d_ros.scene.file.map_archive import (
    read_confidence,
    read_index,
    read_points,
    write_confidence,
    write_index,
    write_points,
)
from wildseg3d_ros.scene.file.mask_archive import describe_masks, read_masks, write_masks
from wildseg3d_ros.scene.scene import Scene

FORMAT = "wildseg3d-scene"
VERSION = 8
"""Raised with every change of the format: a version of this project reads one."""
_HEADER = f"{FORMAT}.json"
_WHAT_IS = "give a file that `wildseg3d build` or the service save_scene wrote"
_ALIGNMENT_VALUES = [
    f.name for f in dataclasses.fields(Alignment) if f.name not in ALIGNMENT_ARRAYS
]
_SCENE_PARTS = (
    "images",
    "K",
    "world_from_cam",
    "masks",
    "world",
    "object_tree",
    "index",
    "alignment",
)
_NOT_KEPT = ("edits", "original")
_SCENE_VALUES = [
    f.name for f in dataclasses.fields(Scene) if f.name not in (*_SCENE_PARTS, *_NOT_KEPT)
]


def save_scene(scene: Scene, path: str | Path) -> None:
    """Writes a scene to one file; a file of that name is replaced only when all is written.

    >>> save_scene(load_scene("scene.ws3d"), "copy.ws3d")

    Raises:
        FileError: the file cannot be written, or what is there is no file. InvalidScene: the scene
            could not be read back.
    """
    path = as_path(path, "scene")
    check_scene(scene)
    with replacing(path) as file, zipfile.ZipFile(file, "w") as archive:
        _write(archive, scene)


def load_scene(path: str | Path) -> Scene:
    """Reads a scene back and checks that its parts fit each other.

    It is what was saved, but for depths, which are kept to a millionth of their value, and
    confidences, kept to a thousandth.

    >>> load_scene("scene.ws3d").view_names
    ('cam_0', 'cam_1', 'cam_2')

    Raises:
        FileError: missing, truncated, damaged, not a scene, or written by another version.
    """
    path = as_path(path, "scene")
    try:
        with opened_zip(path, "scene") as archive:
            if _HEADER not in archive.namelist():
                raise _foreign(path, archive.namelist())
            size = archive.getinfo(_HEADER).file_size
            expect(size <= LARGEST_JSON, _HEADER, f"at most {LARGEST_JSON} bytes", size)
            header = parse_json(archive.read(_HEADER))
            _check_version(path, header)
            scene = _read(archive, header)
        check_scene(scene, masks_checked=True)
        return scene
    except FileError:
        raise
    except zipfile.BadZipFile as error:
        raise FileError(
            f"'{path}' is truncated, damaged, or not a saved scene ({error}); {_WHAT_IS}, or "
            "build it again"
        ) from error
    except InvalidScene as error:
        raise FileError(f"saved scene '{path}' is damaged: {error}; build it again") from error
    except MemoryError as error:
        raise FileError(
            f"saved scene '{path}' is damaged, or holds more than this machine has memory for; "
            "build it again with fewer views or smaller images"
        ) from error
    except Exception as error:
        raise FileError(f"saved scene '{path}' is damaged: {error!r}; build it again") from error


def _foreign(path: Path, members: Sequence[str]) -> FileError:
    """The error of a zip file that holds something else."""
    kind = "a zip file"
    if any(name.endswith("data.pkl") for name in members):
        kind = "a file of PyTorch, such as weights,"
    elif members and all(name.endswith(".npy") for name in members):
        kind = "a NumPy file of arrays, such as pairs or an alignment,"
    return FileError(f"'{path}' is {kind} but not a saved scene (no {_HEADER}); {_WHAT_IS}")


def _check_version(path: Path, header: Any) -> None:
    if not isinstance(header, dict) or header.get("format") != FORMAT:
        raise FileError(f"'{path}' is not a saved scene: its header does not say '{FORMAT}'")
    version = header.get("version")
    if version != VERSION:
        newer = isinstance(version, int) and version > VERSION
        way_out = "update wildseg3d" if newer else "build it again"
        raise FileError(
            f"'{path}' has scene format {version} (written by wildseg3d "
            f"{header.get('written_by')}); this version reads format {VERSION}: {way_out}"
        )


def _write(archive: zipfile.ZipFile, scene: Scene) -> None:
    header = {
        "format": FORMAT,
        "version": VERSION,
        "written_by": __version__,
        "scene": {name: getattr(scene, name) for name in _SCENE_VALUES},
        "alignment": {name: getattr(scene.alignment, name) for name in _ALIGNMENT_VALUES},
        "masks": describe_masks(scene.masks),
    }
    archive.writestr(member(_HEADER), json.dumps(header, indent=1, default=_plain))
    write_array(archive, "K", scene.K)
    write_array(archive, "world_from_cam", scene.world_from_cam)
    for name in ALIGNMENT_ARRAYS:
        write_array(archive, f"alignment/{name}", getattr(scene.alignment, name))
    write_index(archive, scene.index, [image.shape[:2] for image in scene.images])
    write_masks(archive, scene.masks)
    for view in range(len(scene.view_names)):
        image = cv2.cvtColor(scene.images[view], cv2.COLOR_RGB2BGR)
        png = cv2.imencode(".png", image, [cv2.IMWRITE_PNG_COMPRESSION, 1])[1]
        archive.writestr(member(f"image/{view}.png"), png.tobytes())
        camera = scene.K[view], scene.world_from_cam[view]
        write_points(archive, f"points/{view}", scene.world.points[view], *camera)
        write_confidence(archive, f"confidence/{view}", scene.world.confidence[view])


def _read(archive: zipfile.ZipFile, header: dict[str, Any]) -> Scene:
    values = _values(header, "scene", _SCENE_VALUES)
    aligned = _values(header, "alignment", _ALIGNMENT_VALUES)
    aligned |= _arrays(archive, "alignment", ALIGNMENT_ARRAYS)
    aligned["cameras"] = tuple(CameraVerdict(**camera) for camera in aligned["cameras"])
    values["left_out"] = tuple(_left_out(view) for view in values["left_out"])
    views = range(len(check_tuple(values["view_names"], "view_names")))
    sizes_of = check_tuple(values["camera_sizes"], "camera_sizes")
    values["camera_sizes"] = tuple(tuple(size) for size in sizes_of if isinstance(size, list))
    images = _read_images(archive, views)
    sizes = [image.shape[:2] for image in images]
    K, poses = (read_array(archive, name, np.float64, 3) for name in ("K", "world_from_cam"))
    check_cameras(K, poses, len(images))  # before points are made by them
    cameras = zip(sizes, K, poses, strict=True)
    world = WorldPointmaps(
        tuple(read_points(archive, f"points/{v}", *camera) for v, camera in enumerate(cameras)),
        tuple(read_confidence(archive, f"confidence/{v}", size) for v, size in enumerate(sizes)),
    )
    masks = read_masks(archive, header.get("masks"))
    check_masks_of(images, masks)  # before their tree is walked
    objects = ObjectTree.of_cache(masks)
    return Scene(
        **values,
        images=images,
        K=K,
        world_from_cam=poses,
        masks=masks,
        world=world,
        object_tree=objects,
        index=read_index(archive, images, world, objects),
        alignment=Alignment(**aligned),
    )


def _values(header: dict[str, Any], group: str, names: Sequence[str]) -> dict[str, Any]:
    stored = header.get(group)
    given = stored if isinstance(stored, dict) else {}
    missing = [name for name in names if name not in given]
    expect(not missing, f"{group} in the header", f"{', '.join(missing)} in it", list(given))
    # JSON knows lists only.
    return {k: tuple(given[k]) if isinstance(given[k], list) else given[k] for k in names}


def _arrays(archive: zipfile.ZipFile, folder: str, kinds: Kinds) -> dict[str, NDArray]:
    return {
        name: read_array(archive, f"{folder}/{name}", dtype, len(shape))
        for name, (dtype, shape) in kinds.items()
    }


def _left_out(stored: dict[str, Any]) -> LeftOutView:
    """From JSON; a pose that is none fails the check of the scene."""
    pose = stored["world_from_cam"]
    return LeftOutView(
        CameraVerdict(**stored["verdict"]),
        stored["frame_id"],
        None if pose is None else np.array(pose, dtype=np.float64),
    )


def _plain(value: Any) -> Any:
    """NumPy values and verdicts for JSON."""
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, CameraVerdict | LeftOutView):
        return vars(value)
    raise TypeError(f"cannot store {type(value).__name__} in a scene's header")


def _read_images(archive: zipfile.ZipFile, views: range) -> tuple[NDArray[np.uint8], ...]:
    """The images, after what they say of their sizes was checked."""
    pictures, pixels = [], 0
    for view in views:
        name = f"image/{view}.png"
        try:
            data = archive.read(name)
        except KeyError:
            raise InvalidScene(f"image {name}: expected a PNG file, but it is missing") from None
        try:
            head = image_head(data)
        except ValueError:
            head = ImageHead("", 0, 0)
        expect(head.kind == "PNG", name, "a PNG file", f"{len(data)} bytes of another kind")
        pictures.append((name, data))
        pixels += head.width * head.height
    check_claims(archive, 3 * pixels)
    return tuple(_decoded(name, data) for name, data in pictures)


def _decoded(name: str, data: bytes) -> NDArray[np.uint8]:
    try:
        image = decode_image(data, name, cv2.IMREAD_COLOR)
    except InputError as error:
        raise InvalidScene(str(error)) from error
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), np.uint8)
