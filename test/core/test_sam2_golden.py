"""SAM 2 against numbers of the original code for a small model (benchmarks/sam2_golden.py)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from wildseg3d_ros.core.types import ViewPrompts  # noqa: E402
from wildseg3d_ros.masks.sam2 import tracking  # noqa: E402
from wildseg3d_ros.masks.sam2.config import Sam2MaskConfig  # noqa: E402
from wildseg3d_ros.masks.sam2.network import Sam2Network  # noqa: E402
from wildseg3d_ros.masks.sam2.prompts import Sam2Prompts  # noqa: E402
from wildseg3d_testing.sam2_weights import (  # noqa: E402
    images_by_rule,
    mask_by_rule,
    write_sam2_by_rule,
)

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def golden():
    """What the original code says in float32 with the weights of the rule."""
    with np.load(Path(__file__).parent / "data" / "sam2_golden.npz") as file:
        return dict(file)


@pytest.fixture(scope="module")
def network(tmp_path_factory, one_thread):
    weights = write_sam2_by_rule(tmp_path_factory.mktemp("sam2") / "rule")
    return Sam2Network(Sam2MaskConfig(weights=str(weights), device="cpu"))


@pytest.fixture(scope="module")
def embeddings(network):
    return [network.encode(image) for image in images_by_rule()]


@pytest.fixture(scope="module")
def kept(network, embeddings):
    """By frame, what the session keeps of two equal objects that are followed in one batch."""
    mask = torch.from_numpy(np.stack([mask_by_rule()] * 2))[:, None].float()
    session = tracking.begun(network, embeddings, 1, mask)
    for frame, reverse in ((2, False), (0, True)):
        network.video_model(session, frame_idx=frame, reverse=reverse)
    outputs = session.output_dict_per_obj[0]
    return {**outputs["cond_frame_outputs"], **outputs["non_cond_frame_outputs"]}


def relative(value, expected):
    value = np.asarray(value.float() if torch.is_tensor(value) else value)
    assert value.shape == expected.shape
    return np.linalg.norm(value - expected) / np.linalg.norm(expected)


def test_pointer_of_a_given_mask(kept, golden):
    assert relative(kept[1]["object_pointer"][:1], golden["1/pointer"]) < 1e-5
    assert relative(kept[1]["object_pointer"][1:], golden["1/pointer"]) < 1e-5


def test_memory_of_the_prompted_frame(kept, golden):
    """Both keep it as bfloat16; the speck that a quarter does not show is not in it."""
    memory = kept[1]["maskmem_features"][:, :1].permute(1, 2, 0)
    assert relative(memory.reshape(golden["1/memory"].shape), golden["1/memory"]) < 1e-4


@pytest.mark.parametrize("frame", [0, 2])
def test_followed_both_ways(kept, golden, frame):
    for key, name in (("logits", "pred_masks"), ("pointer", "object_pointer")):
        assert relative(kept[frame][name][:1], golden[f"{frame}/{key}"]) < 1e-4
        assert relative(kept[frame][name][1:], golden[f"{frame}/{key}"]) < 1e-4
    assert (golden[f"{frame}/logits"] > 0).any()
    assert (golden[f"{frame}/logits"] < 0).any()


@pytest.mark.parametrize(
    "name, points, on, box",
    [
        ("point", [[40.0, 70.0]], [1], None),
        ("points", [[40.0, 70.0], [90.0, 30.0]], [1, 0], None),
        ("box", None, None, [20.0, 30.0, 80.0, 100.0]),
    ],
)
def test_decode_prompts(network, embeddings, golden, name, points, on, box):
    """Both take whole numbers for the centres of pixels."""
    logits, quality = network.decode(
        embeddings[0],
        None if points is None else np.array([points]),
        None if on is None else np.array([on]),
        None if box is None else np.array([box]),
        alternatives=name == "point",
    )
    # The original returns logits of at most 32.
    assert relative(logits[0].clamp(-32, 32), golden[f"{name}/logits"]) < 1e-4
    assert relative(quality[0], golden[f"{name}/quality"]) < 1e-4


@pytest.mark.parametrize(
    "name, points, on, box",
    [
        ("point", [[40.0, 70.0]], [True], None),
        ("points", [[40.0, 70.0], [90.0, 30.0]], [True, False], None),
        ("box", np.zeros((0, 2)), [], (20.0, 30.0, 80.0, 100.0)),
    ],
)
def test_propose_as_many_as_the_original(network, golden, name, points, on, box):
    """Alternatives for one point, one mask for what says more."""
    prompts = ViewPrompts(np.array(points), np.array(on, np.bool_), box)
    soft, quality = Sam2Prompts(network, images_by_rule(), ()).propose(0, prompts)
    assert len(soft) == len(golden[f"{name}/quality"]) == (3 if name == "point" else 1)
    assert relative(quality, golden[f"{name}/quality"]) < 1e-4
