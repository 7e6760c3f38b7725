"""EdgeTAM by the path of SAM 2, where timm is: the real classes, small and with random weights."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from wildseg3d_ros.core.progress import Progress  # noqa: E402
from wildseg3d_ros.masks import load_masks  # noqa: E402
from wildseg3d_ros.masks.config import MaskConfig  # noqa: E402
from wildseg3d_ros.masks.sam2.config import Sam2MaskConfig  # noqa: E402
from wildseg3d_ros.masks.sam2.tracking import track  # noqa: E402
from wildseg3d_testing.exact import exact_alignment, exact_world  # noqa: E402
from wildseg3d_testing.sam2_weights import EDGE, followed_alone, write_small_edgetam  # noqa: E402
from wildseg3d_testing.scenes import construct_scene  # noqa: E402

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    for package in ("timm", "torchvision"):
        pytest.importorskip(
            package,
            reason=f"EDGETAM IS NOT TESTED HERE: its encoder needs {package}, which is not "
            "installed (10 MB: pip install timm, and a torchvision that fits torch)",
        )
    return write_small_edgetam(tmp_path_factory.mktemp("edgetam"))


@pytest.fixture(scope="module")
def backend(weights):
    config = Sam2MaskConfig(
        weights=str(weights), device="cpu", grid=4, predicted_iou=0.0, stability=0.0, anchors=1,
        box_overlap=1.0, max_area=1.0,
    )  # fmt: skip
    return load_masks(MaskConfig(backend="sam2", sam2=config))


def test_batched_edgetam_classes_and_replaced_methods():
    """Holds without timm: an update of transformers that renames them is seen everywhere."""
    from transformers.models.edgetam_video import modeling_edgetam_video as module

    from wildseg3d_ros.masks.sam2.batching import BatchOfObjects, batched

    made = batched(transformers.EdgeTamVideoModel)
    assert issubclass(made, transformers.EdgeTamVideoModel)
    assert made._single_frame_forward is BatchOfObjects._single_frame_forward
    for name in ("_single_frame_forward", "_use_mask_as_output", "_encode_new_memory"):
        assert hasattr(transformers.EdgeTamVideoModel, name)
    assert hasattr(module, "EdgeTamVideoImageSegmentationOutput")
    assert hasattr(module, "EdgeTamVideoInferenceSession")


def test_segment_edgetam(backend):
    """A scene is segmented."""
    truth = construct_scene(views=3, width=160, height=120, objects=4)
    made = backend.segment(truth.views, exact_alignment(truth), exact_world(truth), Progress())
    assert made.object_ids
    assert all(np.isfinite(scores).all() for scores in made.scores)
    assert all(made.embeddings)


@pytest.mark.parametrize("at_once", [1, 3])
def test_track_against_each_object_alone(backend, weights, at_once):
    """Tracking is propagating each object alone."""
    from transformers.models.edgetam_video.modeling_edgetam_video import (
        EdgeTamVideoInferenceSession,
    )

    truth = construct_scene(views=3, width=160, height=120, objects=3)
    network = backend.network
    embeddings = [network.encode(view.image) for view in truth.views]
    (found,) = track(
        network, embeddings, truth.labels[1][None], 1, [0, 1, 2], at_once, lambda _: None
    )
    published = transformers.EdgeTamVideoModel.from_pretrained(weights).eval()
    frames = torch.cat([network.pixels(view.image) for view in truth.views])
    masks = {}
    for name in (1, 2, 3):
        session = EdgeTamVideoInferenceSession(
            video=frames, video_height=EDGE, video_width=EDGE, dtype=torch.float32
        )
        alone = followed_alone(published, session, truth.labels[1] == name, truth.views[0].size)
        masks |= {(name, frame): logits for frame, logits in alone.items()}
    for view in (0, 2):
        logits = np.stack([masks[name, view] for name in (1, 2, 3)])
        expected = np.where(logits.max(axis=0) > 0, 1 + logits.argmax(axis=0), 0)
        assert (found.labels[view] == expected).mean() > 0.995
        assert expected.any()
