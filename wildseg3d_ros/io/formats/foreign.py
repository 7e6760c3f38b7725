"""What is often given and is no folder of images, and the way from it to one."""

from __future__ import annotations

from pathlib import Path

from wildseg3d_ros.core.files.reading import is_folder, is_regular, shown
from wildseg3d_ros.io.images import SUFFIXES

_FILES: tuple[tuple[tuple[str, ...], str, str], ...] = (
    (
        (".bag",),
        "a bag of ROS 1",
        "convert it with `rosbags-convert --src FILE.bag --dst FOLDER`, of the extra 'bags'",
    ),
    (
        (".r3d",),
        "a capture of Record3D",
        "export it as EXR + RGBD and convert that: `ns-process-data record3d`, of nerfstudio",
    ),
    (
        (".svo", ".svo2"),
        "a recording of a ZED",
        "play it with zed_wrapper (svo_path) and record a bag: `wildseg3d record`",
    ),
    (
        (".mkv",),
        "a video, maybe of an Azure Kinect or Orbbec camera",
        "play it with the camera's ROS driver and record a bag: `wildseg3d record`",
    ),
    (
        (".mp4", ".mov", ".m4v", ".avi", ".webm"),
        "a video",
        "take images out of it: `ffmpeg -i FILE -vf fps=2 FOLDER/%04d.png`",
    ),
    (
        (".sens",),
        "a sensor stream of ScanNet",
        "export color, depth, pose and intrinsic of it with ScanNet's SensReader",
    ),
    (
        (".zip", ".tar", ".tgz", ".gz", ".bz2", ".xz", ".7z", ".rar"),
        "an archive",
        "unpack it and give the folder",
    ),
    (
        (
            ".ply",
            ".spz",
            ".splat",
            ".obj",
            ".glb",
            ".gltf",
            ".usdz",
            ".stl",
            ".fbx",
            ".pcd",
            ".las",
        ),
        "a cloud, mesh or splat, which has no images",
        "export the app's images with their poses: raw data, or transforms.json",
    ),
    ((".ws3d",), "a scene that is built already", "`wildseg3d segment` and `view` read it"),
    (
        (".db",),
        "a database of COLMAP, which has no poses",
        "reconstruct it, `colmap mapper`, and give the folder with sparse/ and images/",
    ),
    (SUFFIXES, "one image", "give the folder that it is in"),
)
"""By the ends of names: what they are, and the way out."""
_OTHER = "write a transforms.json for it (docs/how-to/own-recording.md)"
_FOLDERS: tuple[tuple[tuple[str, ...], str, str], ...] = (
    (
        ("keyframes/cameras",),
        "raw data of Polycam",
        "convert it: `ns-process-data polycam`, of nerfstudio",
    ),
    (
        ("cameras", "depth", "images"),
        "raw data of Polycam",
        "convert it: `ns-process-data polycam`, of nerfstudio",
    ),
    (
        ("metadata.json", "rgb", "depth"),
        "an export of Record3D",
        "convert it: `ns-process-data record3d`, of nerfstudio",
    ),
    (("lowres_wide",), "a scan of ARKitScenes", _OTHER),
    (("results", "traj.txt"), "a sequence of Replica", _OTHER),
    (("rgb", "pose", "intrinsics.txt"), "a scene of NSVF's layout", _OTHER),
    (("image", "cameras_sphere.npz"), "a scene of IDR's layout", _OTHER),
    (("color", "depth", "intrinsic.json"), "a recording of Open3D's, without poses", _OTHER),
)
"""By what lies in them."""


def foreign_file(path: Path) -> str:
    """What a file is that was given where a folder belongs, and the way out; empty if unknown."""
    found = ((what, way) for ends, what, way in _FILES if path.name.lower().endswith(ends))
    return next((f"'{shown(path)}' is {what}: {way}" for what, way in found), "")


def foreign_folder(folder: Path) -> str:
    """The same of a folder without a known format, or of what lies in it."""
    for signs, what, way in _FOLDERS:
        if all(is_folder(folder / sign) or is_regular(folder / sign) for sign in signs):
            return f"folder '{folder}' is {what}: {way}"
    files = (p for p in sorted(folder.iterdir()) if is_regular(p) and p.suffix not in SUFFIXES)
    return next(filter(None, map(foreign_file, files)), "")
