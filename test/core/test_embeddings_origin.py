"""An embedding is decoded by the network that made it, and by no other."""

from __future__ import annotations

import dataclasses
import importlib

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from wildseg3d_ros.core.progress import Progress  # noqa: E402
from wildseg3d_ros.core.types import (  # noqa: E402
    Click,
    Prompt,
    ViewPrompts,
)
from wildseg3d_ros.editing import add_object  # noqa: E402
from wildseg3d_ros.evaluation import most_interior_pixel  # noqa: E402
from wildseg3d_ros.masks.sam2.backend import Sam2Masks  # noqa: E402
from wildseg3d_ros.masks.sam2.config import Sam2MaskConfig  # noqa: E402
from wildseg3d_ros.masks.sam2.tracking import track  # noqa: E402
from wildseg3d_ros.scene.file.snapshot import load_scene, save_scene  # noqa: E402
from wildseg3d_testing.exact import exact_alignment, exact_scene, exact_world  # noqa: E402
from wildseg3d_testing.sam2_weights import write_small_sam2  # noqa: E402
from wildseg3d_testing.scenes import construct_scene  # noqa: E402

pytestmark = pytest.mark.usefixtures("one_thread")


def masks_of(weights, **changed):
    config = Sam2MaskConfig(
        weights=str(weights), device="cpu", grid=4, predicted_iou=0.0, stability=0.3, anchors=1,
        box_overlap=0.9, max_area=0.9,
    )  # fmt: skip
    return Sam2Masks(dataclasses.replace(config, **changed))


@pytest.fixture(scope="module")
def mine(small_sam2, one_thread):
    return masks_of(small_sam2)


@pytest.fixture(scope="module")
def foreign(tmp_path_factory, one_thread):
    """The same architecture with other weights."""
    return masks_of(write_small_sam2(tmp_path_factory.mktemp("other") / "weights", seed=5))


@pytest.fixture(scope="module")
def truth():
    return construct_scene(views=3, width=160, height=120, objects=5)


@pytest.fixture(scope="module")
def cache(mine, truth):
    return mine.segment(truth.views, exact_alignment(truth), exact_world(truth), Progress())


@pytest.fixture
def encoded(mine, foreign, monkeypatch):
    """The images that are encoded."""
    seen = []
    for masks in (mine, foreign):
        encode = masks.network.encode

        def spy(image, encode=encode):
            seen.append(image)
            return encode(image)

        monkeypatch.setattr(masks.network, "encode", spy)
    return seen


def proposed(masks, cache, images):
    prompts = ViewPrompts(np.array([[60.0, 50.0]]), np.array([True]))
    return masks.prompts(images, cache).propose(1, prompts)[0]


def test_encoder_fingerprint_weights(small_sam2, mine, foreign):
    """The fingerprint tells weights and not how they are run."""
    assert masks_of(small_sam2).network.fingerprint == mine.network.fingerprint
    assert masks_of(small_sam2, dtype="bfloat16").network.fingerprint == mine.network.fingerprint
    assert foreign.network.fingerprint != mine.network.fingerprint


def test_encoder_fingerprint_one_change(mine):
    """Also a tensor of the decoder through which finer features go before they are kept."""
    from wildseg3d_ros.masks.sam2.fingerprint import encoder_fingerprint

    model = mine.network.image_model
    settings = model.config.vision_config
    before = encoder_fingerprint(model)
    assert before == mine.network.fingerprint
    patches = model.vision_encoder.backbone.patch_embed.projection.weight
    for tensor in (patches, model.mask_decoder.conv_s0.weight):
        kept = tensor.detach().clone()
        with torch.no_grad():
            tensor *= 1.1
            assert encoder_fingerprint(model) != before
            tensor.copy_(kept)
    epsilon = settings.layer_norm_eps
    settings.layer_norm_eps = 1e-3
    assert encoder_fingerprint(model) != before
    settings.layer_norm_eps = epsilon
    assert encoder_fingerprint(model) == before


def test_prompts_other_network(mine, foreign, cache, truth, encoded):
    """A prompt with another network encodes its view anew."""
    images = [view.image for view in truth.views]
    own = proposed(mine, cache, images)
    assert encoded == []
    other = proposed(foreign, cache, images)
    assert len(encoded) == 1
    assert encoded[0] is images[1]
    bare = dataclasses.replace(cache, embeddings=())
    np.testing.assert_array_equal(other, proposed(foreign, bare, images))
    assert not np.array_equal(other, own)


def test_snapshot_keeps_encoder(mine, foreign, cache, truth, encoded, tmp_path):
    """What made the embeddings is kept in the file."""
    save_scene(exact_scene(truth, cache=cache), tmp_path / "scene.ws3d")
    scene = load_scene(tmp_path / "scene.ws3d")
    assert scene.masks.encoder == mine.network.fingerprint
    click = Click("cam_0", *most_interior_pixel(truth.labels[0] > 0))
    extended, _ = add_object(scene, Prompt((click,)), masks=mine)
    assert encoded == []
    assert extended.masks.encoder == mine.network.fingerprint
    proposed(foreign, scene.masks, scene.images)
    assert len(encoded) == 1


@pytest.mark.parametrize("anchors", [1, 0])
def test_update_other_network(foreign, cache, truth, encoded, monkeypatch, anchors):
    """It tracks over its own embeddings, or keeps none but that of the new image."""
    module = importlib.import_module("wildseg3d_ros.masks.sam2.backend")
    tracked = []

    def spy(network, embeddings, *rest):
        tracked.extend(embeddings)
        return track(network, embeddings, *rest)

    monkeypatch.setattr(module, "track", spy)
    monkeypatch.setattr(foreign, "_config", dataclasses.replace(foreign._config, anchors=anchors))
    given = truth.views, exact_alignment(truth), exact_world(truth)
    made = foreign.update(*given, cache, 1, Progress())
    assert made.encoder == foreign.network.fingerprint
    assert len(encoded) == (3 if anchors else 1)
    assert bool(tracked) == bool(anchors)
    for view, stored in enumerate(made.embeddings):
        expected = foreign.network.store(foreign.network.encode(truth.views[view].image))
        if anchors or view == 1:
            for one, other in zip(stored, expected, strict=True):
                np.testing.assert_array_equal(one, other)
        else:
            assert stored == ()
    # A second one finds them.
    encoded.clear()
    foreign.update(*given, made, 1, Progress())
    assert len(encoded) == 1


def test_update_lost_embedding(mine, cache, truth, encoded):
    """A view whose embedding was lost is encoded for the next tracks."""
    lost = dataclasses.replace(cache, embeddings=((), *cache.embeddings[1:]))
    given = truth.views, exact_alignment(truth), exact_world(truth)
    made = mine.update(*given, lost, 1, Progress())
    assert len(encoded) == 2
    assert all(made.embeddings)
