"""Depth Anything 3 against the authors' network: the same random weights, images and cameras.

It needs the authors' package beside this project's environment; its own requirements pin what
nobody can live with, so that it is installed without them, in an environment of its own:

    python -m venv scratch && scratch/bin/pip install --no-deps depth-anything-3==0.1.1 \
        einops omegaconf addict antlr4-python3-runtime==4.9.3

``python -m benchmarks.da3_reference`` compares the published sizes (small and base, 4 views of
378x504) and takes the time of both; ``--golden FILE`` writes the numbers that the tests compare
the tiny network with (test/core/data/da3_golden.npz).
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from wildseg3d_ros.pointmaps.da3.cameras import encode_cameras
from wildseg3d_ros.pointmaps.da3.network import Architecture, DepthAnything3
from wildseg3d_testing.da3_weights import (
    BASE,
    SMALL,
    TINY,
    cameras_by_rule,
    images_by_rule,
    network_by_rule,
    weight_by_rule,
)

CASES = {"three": (3, False), "three_posed": (3, True), "two": (2, False), "four_posed": (4, True)}
"""Views, and whether their cameras are given, by the case's name."""

GOLDEN_SIZE = (28, 42)


def reference_network(architecture: Architecture) -> Any:
    """The authors' network with weights by the rule."""
    from depth_anything_3.model.cam_dec import CameraDec
    from depth_anything_3.model.cam_enc import CameraEnc
    from depth_anything_3.model.da3 import DepthAnything3Net
    from depth_anything_3.model.dinov2.vision_transformer import DinoVisionTransformer
    from depth_anything_3.model.dualdpt import DualDPT

    sizes = architecture.backbone

    class Net(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            first = sizes.first_joint
            self.pretrained = DinoVisionTransformer(
                img_size=sizes.positions * sizes.patch,
                patch_size=sizes.patch,
                embed_dim=sizes.channels,
                depth=sizes.depth,
                num_heads=sizes.heads,
                mlp_ratio=sizes.hidden / sizes.channels,
                alt_start=first,
                qknorm_start=first,
                rope_start=first,
            )

        def forward(self, x: torch.Tensor, **options: Any) -> Any:
            return self.pretrained.get_intermediate_layers(x, list(sizes.kept), **options)

    head = DualDPT(
        2 * sizes.channels,
        output_dim=2,
        features=architecture.head.features,
        out_channels=architecture.head.layers,
    )
    cameras = CameraDec(2 * sizes.channels), CameraEnc(sizes.channels)
    network = DepthAnything3Net(Net(), head, *cameras)
    state = {
        name: torch.from_numpy(weight_by_rule(f"model.{name}", tuple(value.shape)))
        for name, value in network.state_dict().items()
    }
    network.load_state_dict(state)
    return network.eval().requires_grad_(False)


def reference_numbers(network: Any, case: str, size: tuple[int, int]) -> dict[str, np.ndarray]:
    """Its answers, the cameras as poses ``world_from_cam`` and intrinsics, rays of the head."""
    views, posed = CASES[case]
    images = torch.stack(images_by_rule(views, *size))[None]
    given: tuple = (None, None)
    if posed:
        poses, K = cameras_by_rule(views, *size)
        given = _normalised(np.linalg.inv(poses)), torch.from_numpy(K).float()[None]
    rays: dict[str, Any] = {}
    # The network drops its rays where it has cameras.
    hook = network.head.register_forward_hook(lambda _, __, out: rays.update(ray=out["ray"]))
    with torch.inference_mode():
        out = network(images, *given)
    hook.remove()
    bottom = np.tile(np.array([0.0, 0.0, 0.0, 1.0]), (views, 1, 1))
    world = out["extrinsics"][0].double().numpy()
    return {
        "depth": out["depth"][0].numpy(),
        "confidence": out["depth_conf"][0].numpy(),
        "world_from_cam": np.linalg.inv(np.concatenate([world, bottom], axis=1)),
        "focal": out["intrinsics"][0].double().numpy()[:, [1, 0], [1, 0]],
        "rays": rays["ray"][0].numpy(),
    }


def _normalised(extrinsics: np.ndarray) -> torch.Tensor:
    """Given cameras as the package prepares them; its own code, without its other imports."""
    from depth_anything_3.utils.geometry import affine_inverse

    made = torch.from_numpy(extrinsics).float()[None]
    made = made @ affine_inverse(made[:, :1])
    distance = affine_inverse(made)[..., :3, 3].norm(dim=-1).median().clamp(min=1e-1)
    made[..., :3, 3] /= distance
    return made


def our_numbers(
    network: DepthAnything3, case: str, size: tuple[int, int]
) -> dict[str, np.ndarray]:
    """The same of our network."""
    from wildseg3d_ros.pointmaps.da3.cameras import decode_cameras

    views, posed = CASES[case]
    cameras = None
    if posed:
        cameras = torch.from_numpy(encode_cameras(*cameras_by_rule(views, *size), [size] * views))
    with torch.inference_mode():
        maps = network(images_by_rule(views, *size), cameras, with_rays=True)
    found = np.stack([each.camera.numpy() for each in maps])
    poses, K = decode_cameras(found, [size] * views)
    return {
        "depth": np.stack([each.depth.numpy() for each in maps]),
        "confidence": np.stack([each.confidence.numpy() for each in maps]),
        "world_from_cam": poses,
        "focal": K[:, [1, 0], [1, 0]],
        "rays": np.stack([each.rays.numpy() for each in maps if each.rays is not None]),
    }


def difference(ours: np.ndarray, theirs: np.ndarray) -> float:
    """Norm of the difference over that of the reference."""
    assert ours.shape == theirs.shape, (ours.shape, theirs.shape)
    return float(np.linalg.norm(ours - theirs) / np.linalg.norm(theirs))


def compare(architecture: Architecture, case: str, size: tuple[int, int], rounds: int = 2) -> dict:
    """Differences, and processor seconds of both in turn, the least of the rounds."""
    ours, theirs = network_by_rule(architecture), reference_network(architecture)
    clocks: dict[str, list[float]] = {"ours": [], "theirs": []}
    views = CASES[case][0]
    images = images_by_rule(views, *size)
    with torch.inference_mode():
        for _ in range(rounds):
            for name, run in (
                ("theirs", lambda: theirs(torch.stack(images)[None])),
                ("ours", lambda: ours(images)),
            ):
                start = time.process_time()
                run()
                clocks[name].append(time.process_time() - start)
    found, expected = our_numbers(ours, case, size), reference_numbers(theirs, case, size)
    out: dict[str, Any] = {
        f"{name}, relative difference": difference(found[name], expected[name]) for name in found
    }
    out["depth, largest relative difference of a pixel"] = float(
        np.abs(found["depth"] / expected["depth"] - 1).max()
    )
    out |= {f"{name}, processor time [s]": min(each) for name, each in clocks.items()}
    out["ours over theirs"] = min(clocks["ours"]) / min(clocks["theirs"])
    return out


def write_golden(path: Path) -> None:
    """The reference's numbers of the tiny network, all cases."""
    network = reference_network(TINY)
    numbers = {}
    for case in CASES:
        made = reference_numbers(network, case, GOLDEN_SIZE)
        if case != "three":
            del made["rays"]
        numbers |= {f"{case}/{name}": value.astype(np.float32) for name, value in made.items()}
    np.savez_compressed(path, **numbers)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.da3_reference", description=__doc__
    )
    parser.add_argument("--golden", type=Path, metavar="FILE", help="write the tests' numbers")
    options = parser.parse_args()
    if options.golden:
        write_golden(options.golden)
        return
    out = {"threads": torch.get_num_threads()}
    for name, sizes in (("small", SMALL), ("base", BASE)):
        out[name] = {case: compare(sizes, case, (378, 504)) for case in ("four_posed",)}
    json.dump(out, sys.stdout, indent=2)


if __name__ == "__main__":
    main()
