"""Installs the ROS 2 package (ament_python), by colcon or by pip.

The metadata stands here and not in pyproject.toml, because colcon reads it here; version,
description and maintainer come from package.xml.
"""

import xml.etree.ElementTree as ET
from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).resolve().parent
NAME = "wildseg3d"
NETWORKS = ["torch>=2.1", "safetensors>=0.4", "huggingface_hub>=1.0"]
MANIFEST = ET.parse(HERE / "package.xml").getroot()


def manifest(tag):
    return " ".join(MANIFEST.findtext(tag).split())


def shared_files(folder):
    """(destination, files) for `folder` and below, as the relative paths setuptools wants."""
    files = sorted(path for path in (HERE / folder).rglob("*") if path.is_file())
    files = [path for path in files if path.parent.name != "__pycache__"]
    folders = dict.fromkeys(path.parent.relative_to(HERE) for path in files)
    return [
        (
            f"share/{NAME}/{parent}",
            [str(path.relative_to(HERE)) for path in files if path.parent == HERE / parent],
        )
        for parent in folders
    ]


setup(
    name=NAME,
    version=manifest("version"),
    description=manifest("description"),
    author=manifest("maintainer"),
    maintainer=manifest("maintainer"),
    maintainer_email=MANIFEST.find("maintainer").get("email"),
    license=manifest("license"),
    packages=find_packages(include=["wildseg3d_ros", "wildseg3d_ros.*"]),
    package_data={
        "wildseg3d_ros": [
            "*.pyi",
            "py.typed",
            "masks/learned/affinities.onnx",
            "masks/learned/affinities.md",
            "masks/surface/scores*.npz",
            "viewer/*.css",
            "viewer/*.js",
            "viewer/*.svg",
        ]
    },
    data_files=[
        ("share/ament_index/resource_index/packages", [f"resource/{NAME}"]),
        (f"share/{NAME}", ["package.xml"]),
        *shared_files("launch"),
        *shared_files("config"),
        *shared_files("examples"),
    ],
    python_requires=">=3.11",
    # Ranges that the code works with; packaging/requirements has the versions that are tested.
    install_requires=[
        "array-api-compat>=1.9",
        "numpy>=1.26",
        "opencv-python-headless>=4.11",
        "PyYAML>=6",
        "scikit-image>=0.22",
        "scipy>=1.11",
        "setuptools",
        "threadpoolctl>=3.1",
        "tqdm>=4.60",
    ],
    extras_require={
        "bags": ["rosbags>=0.11,<0.12"],
        "da3": NETWORKS,
        "mast3r": NETWORKS,
        "ray": ["ray>=2.40,<3"],
        "sam2": [*NETWORKS, "transformers>=5.23"],
        "sim": ["mujoco>=3"],
        "train": ["torch>=2.1", "mujoco>=3", "onnx>=1.16", "trimesh>=4.4"],
        "viewer": ["nicegui>=3.18,<4"],
        "test": ["array-api-strict>=2", "hypothesis>=6", "pytest>=7.4", "pytest-xdist>=3"],
    },
    zip_safe=False,
    entry_points={
        "console_scripts": [
            "wildseg3d = wildseg3d_ros.cli:main",
            "scene_node = wildseg3d_ros.ros.scene_node:main",
            "replay_node = wildseg3d_ros.ros.replay_node:main",
            "cell = wildseg3d_ros.ros.cell_node:main",
            "viewer = wildseg3d_ros.viewer.command:main_live",
            "click = wildseg3d_ros.examples.click:main",
            "gpd_samples = wildseg3d_ros.examples.gpd_samples:main",
            "graspnet_file = wildseg3d_ros.examples.graspnet_file:main",
            "moveit_objects = wildseg3d_ros.examples.moveit_objects:main",
            "wrist = wildseg3d_ros.examples.wrist:main",
        ],
        # The back ends, by their settings: as any other package adds its own:
        # docs/how-to/extending.md.
        "wildseg3d.pointmaps": [
            "da3 = wildseg3d_ros.pointmaps.da3.config:Da3PointmapConfig",
            "depth = wildseg3d_ros.pointmaps.depth.config:DepthPointmapConfig",
            "mast3r = wildseg3d_ros.pointmaps.mast3r.config:Mast3rPointmapConfig",
            "stereo = wildseg3d_ros.pointmaps.stereo.config:StereoPointmapConfig",
        ],
        "wildseg3d.masks": [
            "geometric = wildseg3d_ros.masks.geometric.config:GeometricMaskConfig",
            "sam2 = wildseg3d_ros.masks.sam2.config:Sam2MaskConfig",
        ],
    },
)
