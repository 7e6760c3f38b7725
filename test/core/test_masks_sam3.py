"""SAM 3's tracker by the path of SAM 2: the real classes, small and with random weights."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from wildseg3d_ros.core.errors import FileError  # noqa: E402
from wildseg3d_ros.core.progress import Progress  # noqa: E402
from wildseg3d_ros.masks import load_masks  # noqa: E402
from wildseg3d_ros.masks.config import MaskConfig  # noqa: E402
from wildseg3d_ros.masks.sam2.config import Sam2MaskConfig  # noqa: E402
from wildseg3d_ros.masks.sam2.tracking import track  # noqa: E402
from wildseg3d_testing.exact import exact_alignment, exact_world  # noqa: E402
from wildseg3d_testing.sam2_weights import followed_alone  # noqa: E402
from wildseg3d_testing.sam3_weights import (  # noqa: E402
    SIDE,
    write_small_sam3,
    write_small_sam3_video,
)
from wildseg3d_testing.scenes import construct_scene  # noqa: E402

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    return write_small_sam3_video(tmp_path_factory.mktemp("sam3"))


@pytest.fixture(scope="module")
def truth():
    return construct_scene(views=3, width=160, height=120, objects=3)


def backend_of(weights):
    config = Sam2MaskConfig(
        weights=str(weights), device="cpu", grid=4, predicted_iou=0.0, stability=0.0, anchors=1,
        box_overlap=1.0,
    )  # fmt: skip
    return load_masks(MaskConfig(backend="sam2", sam2=config))


@pytest.fixture(scope="module")
def backend(weights, one_thread):
    return backend_of(weights)


def test_segment(backend, truth):
    made = backend.segment(truth.views, exact_alignment(truth), exact_world(truth), Progress())
    assert made.object_ids and all(made.embeddings)
    assert all(np.isfinite(scores).all() for scores in made.scores)


def test_load_says_the_licence_and_refuses_what_cannot_track(weights, tmp_path, caplog):
    backend_of(weights)
    assert "SAM 3 weights" in caplog.text and "SAM License" in caplog.text
    with pytest.raises(FileError, match=r"type 'sam3'; expected one of .*sam3_video.*masks.sam2"):
        backend_of(write_small_sam3(tmp_path / "image"))


def test_decode_says_what_the_class_says(backend, weights, truth):
    """A click, beside the published class given the features with "no memory" at the coarsest of
    the levels that it takes, where the original adds it."""
    network, image = backend.network, truth.views[0].image
    embedding = network.encode(image)
    logits, quality = network.decode(embedding, np.array([[[70.0, 50.0]]]), np.ones((1, 1), int))
    published = transformers.Sam3TrackerModel.from_pretrained(
        weights, key_mapping={r"^tracker_model\.(.+)": r"\1"}
    ).eval()
    pixels = torch.nn.functional.interpolate(
        torch.tensor(image).permute(2, 0, 1)[None] / 127.5 - 1.0,
        (SIDE, SIDE), mode="bilinear", antialias=True,
    )  # fmt: skip
    with torch.inference_mode():
        levels = list(published.get_image_features(pixels).fpn_hidden_states[:3])
        levels[2] = levels[2] + published.no_memory_embedding
        maps = [each.permute(1, 2, 0).reshape(1, -1, 16 >> k, 16 >> k)
                for k, each in enumerate(levels)]  # fmt: skip
        point = torch.tensor([[[[(70.5 * SIDE / 160) - 0.5, (50.5 * SIDE / 120) - 0.5]]]])
        out = published(
            image_embeddings=maps, input_points=point, input_labels=torch.ones(1, 1, 1).int()
        )
    torch.testing.assert_close(logits, out.pred_masks[0], rtol=1e-4, atol=1e-3)
    torch.testing.assert_close(quality, out.iou_scores[0], rtol=1e-4, atol=1e-4)
    assert float(logits.std()) > 0.01


def test_track_against_each_object_alone(backend, weights, truth):
    from transformers.models.sam3_tracker_video.modeling_sam3_tracker_video import (
        Sam3TrackerVideoInferenceSession,
    )

    network = backend.network
    embeddings = [network.encode(view.image) for view in truth.views]
    (found,) = track(network, embeddings, truth.labels[1][None], 1, [0, 1, 2], 3, lambda _: None)
    published = transformers.Sam3TrackerVideoModel.from_pretrained(weights).eval()
    frames = torch.cat([network.pixels(view.image) for view in truth.views])
    masks = {}
    for name in (1, 2, 3):
        session = Sam3TrackerVideoInferenceSession(
            video=frames, video_height=SIDE, video_width=SIDE, dtype=torch.float32
        )
        alone = followed_alone(published, session, truth.labels[1] == name, truth.views[0].size)
        masks |= {(name, frame): logits for frame, logits in alone.items()}
    for view in (0, 2):
        logits = np.stack([masks[name, view] for name in (1, 2, 3)])
        expected = np.where(logits.max(axis=0) > 0, 1 + logits.argmax(axis=0), 0)
        assert (found.labels[view] == expected).mean() > 0.995
        assert expected.any()
