"""A recording of the simulated cell, as its cameras deliver it, and the truth beside it."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np

from wildseg3d_ros.core.files.writing import write_bytes
from wildseg3d_ros.core.progress import Progress
from wildseg3d_ros.core.types import View
from wildseg3d_ros.io.folder import Recording, write_folder
from wildseg3d_ros.sim.cell import Cell, build_cell
from wildseg3d_ros.sim.noise import DepthNoise, kinematic_pose, sense_color, sense_depth
from wildseg3d_ros.sim.render import Frame, render_cell

STAMP_NS = 1_700_000_000_000_000_000
"""Time of all images: any fixed time makes the recording reproducible."""


@dataclass(frozen=True)
class RecordingSpec:
    """What to record.

    Attributes:
        seed: the same seed gives the same recording.
        objects, views: how many.
        width, height: of the pictures [px].
        light_samples: passes of light per picture.
        depth_noise: the depth camera; None for perfect depth.
        translation_sigma: standard deviation of the reported camera positions per axis [m].
        rotation_sigma: standard deviation of the reported orientations per axis [rad].
        color_noise: 0 = perfect colour cameras, 1 = as in indoor light.
    """

    seed: int = 0
    objects: int = 10
    views: int = 6
    width: int = 640
    height: int = 480
    light_samples: int = 48
    depth_noise: DepthNoise | None = field(default_factory=DepthNoise)
    translation_sigma: float = 0.003
    rotation_sigma: float = 0.004
    color_noise: float = 1.0


def record(
    spec: RecordingSpec, progress: Progress | None = None
) -> tuple[Recording, Cell, list[Frame]]:
    """The recording, and the cell and the perfect frames that it was made from."""
    progress = progress or Progress()
    with progress.stage("settle"):
        cell = build_cell(spec.objects, spec.views, spec.seed)
    frames = render_cell(cell, spec.width, spec.height, spec.seed, spec.light_samples, progress)
    views = []
    for k, (camera, frame) in enumerate(zip(cell.cameras, frames, strict=True)):
        rng = np.random.default_rng([spec.seed, 5000, k])
        K, depth = camera.intrinsics(spec.width, spec.height), frame.depth
        if spec.depth_noise is not None:
            depth = sense_depth(depth, K, rng, spec.depth_noise)
        sigmas = spec.translation_sigma, spec.rotation_sigma
        pose = kinematic_pose(camera.world_from_cam, rng, *sigmas)
        image = sense_color(frame.color, rng, spec.color_noise)
        frame_id = f"{camera.name}_optical_frame"
        views.append(View(camera.name, image, K, depth, pose, STAMP_NS, frame_id))
    names = {k + 1: prop.name for k, prop in enumerate(cell.props)}
    masks = tuple(frame.labels for frame in frames)
    return Recording(tuple(views), masks, names), cell, frames


def write_truth(path: Path, spec: RecordingSpec, recording: Recording, cell: Cell) -> None:
    """Writes what the recording's cameras do not tell.

    JSON with ``cameras`` (exact camera-to-world matrix in OpenCV axes, and how far the reported
    pose is off), ``objects`` (label, pose, size, what it was put on), and ``spec``, in metres.

    Raises:
        FileError: the file cannot be written.
    """
    cameras = {}
    for view, camera in zip(recording.views, cell.cameras, strict=True):
        assert view.world_from_cam_prior is not None
        off = view.world_from_cam_prior[:3, 3] - camera.world_from_cam[:3, 3]
        cameras[view.name] = {
            "world_from_cam": np.round(camera.world_from_cam, 9).tolist(),
            "reported_position_error": round(float(np.linalg.norm(off)), 6),
        }
    objects = {}
    for k, (prop, placement) in enumerate(zip(cell.props, cell.placements, strict=True)):
        size = np.concatenate([part.mesh.vertices for part in prop.parts])
        objects[prop.name] = {
            "label": k + 1,
            "world_from_object": np.round(cell.world_from_object(k), 6).tolist(),
            "size": np.round(np.ptp(size, axis=0), 4).tolist(),
            "placed": placement.relation,
            "partner": placement.partner,
        }
    truth = {"spec": asdict(spec), "cameras": cameras, "objects": objects}
    write_bytes(path, (json.dumps(truth, indent=1) + "\n").encode())


def write_recording(
    folder: Path, spec: RecordingSpec, progress: Progress | None = None
) -> Recording:
    """Records and writes a folder in the format of :mod:`wildseg3d_ros.io.folder`, and its truth.

    Raises:
        InputError: what ``spec`` asks for cannot be built. FileError: a file cannot be written.
    """
    recording, cell, _ = record(spec, progress)
    write_folder(folder, recording, depth_unit=0.0005, jpeg_quality=92)
    write_truth(folder / "truth.json", spec, recording, cell)
    return recording
