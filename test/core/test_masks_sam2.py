"""The SAM 2 back end with the real classes, small and with random weights, through every step."""

from __future__ import annotations

import dataclasses
import importlib
import json
import resource
import shutil

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from wildseg3d_ros.config import SceneConfig  # noqa: E402
from wildseg3d_ros.core.errors import (  # noqa: E402
    Cancelled,
    ConfigError,
    FileError,
    InvalidScene,
    WildSeg3DError,
)
from wildseg3d_ros.core.geometry.visibility import Visibility  # noqa: E402
from wildseg3d_ros.core.progress import Progress  # noqa: E402
from wildseg3d_ros.core.types import LEVELS, Click, MaskCache, Prompt, ViewPrompts  # noqa: E402
from wildseg3d_ros.masks.incremental import replace_view_masks  # noqa: E402
from wildseg3d_ros.masks.interactive.updating import UpdatedMasks  # noqa: E402
from wildseg3d_ros.masks.sam2.backend import Sam2Masks  # noqa: E402
from wildseg3d_ros.masks.sam2.config import Sam2MaskConfig  # noqa: E402
from wildseg3d_ros.masks.sam2.generation import grid_points  # noqa: E402
from wildseg3d_ros.masks.sam2.network import Sam2Network  # noqa: E402
from wildseg3d_ros.masks.sam2.prompts import Sam2Prompts  # noqa: E402
from wildseg3d_ros.masks.sam2.tracking import track  # noqa: E402
from wildseg3d_ros.pipeline import build_scene, segment  # noqa: E402
from wildseg3d_ros.scene.file.snapshot import load_scene, save_scene  # noqa: E402
from wildseg3d_testing.exact import exact_alignment, exact_world  # noqa: E402
from wildseg3d_testing.oracles import OraclePointmaps  # noqa: E402
from wildseg3d_testing.sam2_weights import EDGE, followed_alone  # noqa: E402
from wildseg3d_testing.scenes import construct_scene  # noqa: E402

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def weights(small_sam2):
    return small_sam2


def settings(weights, **changed):
    base = Sam2MaskConfig(
        weights=str(weights),
        device="cpu",
        grid=6,
        predicted_iou=0.0,
        stability=0.3,
        anchors=2,
        box_overlap=0.9,
        min_area=0.0005,
        max_area=0.9,
    )
    return dataclasses.replace(base, **changed)


@pytest.fixture(scope="module")
def backend(weights, one_thread):
    return settings(weights).load()


@pytest.fixture(scope="module")
def truth():
    return construct_scene(views=3, width=160, height=120, objects=5)


@pytest.fixture(scope="module")
def cache(backend, truth):
    return backend.segment(truth.views, exact_alignment(truth), exact_world(truth), Progress())


def run(backend, truth, progress=None, views=None):
    return backend.segment(
        views or truth.views, exact_alignment(truth), exact_world(truth), progress or Progress()
    )


def test_decode_against_whole_model(backend, truth):
    """Against the published class called in one go, with the image and its own coordinates."""
    image = truth.views[0].image
    network = backend.network
    height, width = image.shape[:2]
    points = np.array([[[40.0, 30.0], [90.0, 60.0]], [[10.0, 100.0], [150.0, 5.0]]])
    labels = np.array([[1, 0], [1, 1]])
    logits, quality = network.decode(network.encode(image), points, labels)
    scaled = torch.tensor((points + 0.5) * EDGE / [width, height] - 0.5, dtype=torch.float32)
    with torch.inference_mode():
        whole = network.image_model(
            pixel_values=network.pixels(image),
            input_points=scaled[None],
            input_labels=torch.tensor(labels, dtype=torch.int32)[None],
        )
    torch.testing.assert_close(logits, whole.pred_masks[0], rtol=1e-3, atol=1e-2)
    torch.testing.assert_close(quality, whole.iou_scores[0], rtol=1e-4, atol=1e-4)
    assert logits.shape == (2, 3, EDGE // 4, EDGE // 4)


def test_restore_decodes_alike(backend, truth):
    """A stored embedding decodes alike."""
    network = backend.network
    embedding = network.encode(truth.views[1].image)
    kept = network.store(embedding)
    assert all(part.dtype == np.float16 for part in kept)
    again = network.restore(kept, embedding.size)
    points = grid_points(2, embedding.size)[:, None]
    ones = np.ones(points.shape[:2], int)
    one, _ = network.decode(embedding, points, ones)
    other, _ = network.decode(again, points, ones)
    assert ((one > 0) != (other > 0)).float().mean() < 0.01
    with pytest.raises(InvalidScene, match=r"embeddings: expected arrays of shape.*build the"):
        network.restore(kept[::-1], embedding.size)
    with pytest.raises(InvalidScene, match="embeddings: expected"):
        network.restore((*kept[:2], kept[2][..., :-1]), embedding.size)


def test_decode_box(backend, truth):
    """A box is a prompt too."""
    embedding = backend.network.encode(truth.views[0].image)
    logits, quality = backend.network.decode(
        embedding, boxes=np.array([[10.0, 20.0, 60.0, 80.0]]), alternatives=False
    )
    assert logits.shape == (1, 1, EDGE // 4, EDGE // 4)
    assert quality.shape == (1, 1)


@pytest.mark.parametrize("at_once", [1, 2, 3])
def test_track_against_each_object_alone(backend, weights, truth, at_once):
    """Against the published class, object by object through its own iterator, images and all."""
    from transformers import Sam2VideoModel
    from transformers.models.sam2_video.modeling_sam2_video import Sam2VideoInferenceSession

    network = backend.network
    embeddings = [network.encode(view.image) for view in truth.views]
    labels = truth.labels[1].copy()
    labels[labels > 2] = 0
    inner = np.where((labels == 1) & (np.indices(labels.shape)[1] % 40 < 20), 3, 0)
    layers = np.stack([labels, inner.astype(np.int32)])
    found, finer = track(network, embeddings, layers, 1, [0, 1, 2], at_once, lambda _: None)
    assert found.anchor == finer.anchor == 1
    assert found.order == finer.order == ((2,), (0,))
    assert found.labels[1] is None
    published = Sam2VideoModel.from_pretrained(weights).eval()
    frames = torch.cat([network.pixels(view.image) for view in truth.views])
    masks = {}
    for name in (1, 2, 3):
        session = Sam2VideoInferenceSession(
            video=frames, video_height=EDGE, video_width=EDGE, dtype=torch.float32
        )
        alone = followed_alone(
            published, session, (layers == name).any(axis=0), truth.views[0].size
        )
        masks |= {(name, frame): logits for frame, logits in alone.items()}
    for view in (0, 2):
        logits = np.stack([masks[1, view], masks[2, view]])
        expected = np.where(logits.max(axis=0) > 0, 1 + logits.argmax(axis=0), 0)
        assert (found.labels[view] == expected).mean() > 0.995
        assert expected.any()
        alone = masks[3, view] > 0
        assert ((finer.labels[view] == 3) == alone).mean() > 0.995
        assert alone.any()


def test_segment_levels_and_records(cache, truth):
    """Finds masks on all levels and records them."""
    assert len(cache.maps) == len(LEVELS)
    assert cache.object_ids
    for object_record in cache.objects:
        level = LEVELS.index(object_record.level)
        for mask in object_record.masks:
            pixels = cache.maps[level][mask.view] == object_record.object_id
            rows, columns = np.nonzero(pixels)
            assert mask.area == len(rows)
            assert mask.box == (columns.min(), rows.min(), columns.max(), rows.max())
            assert 0 <= mask.score <= 1
            assert mask.soft.shape == (np.ptp(rows) + 1, np.ptp(columns) + 1)
            inside = pixels[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
            assert (mask.soft[inside] >= 127).all()
        assert set(object_record.views).isdisjoint(object_record.unmasked)
        if object_record.parent:
            assert cache.record(object_record.parent).level == LEVELS[level - 1]
    assert any(each.parent for each in cache.objects)


def test_segment_repeatable(backend, cache, truth):
    """Same input gives the same cache."""
    again = run(backend, truth)
    for one, other in zip(again.maps, cache.maps, strict=True):
        for a, b in zip(one, other, strict=True):
            np.testing.assert_array_equal(a, b)


def test_segment_memory_bound(weights, truth):
    """Without tracks, whose batches are compared above: random weights draw them so faintly that
    the rounding of another batch changes ids."""
    large, small = (
        run(Sam2Masks(settings(weights, anchors=0, max_memory_mib=bound)), truth)
        for bound in (4096, 21)
    )
    for level, other in zip(small.maps, large.maps, strict=True):
        for a, b in zip(level, other, strict=True):
            assert (a != b).mean() < 0.02
    with pytest.raises(ConfigError, match="too small for 1 view"):
        Sam2Masks(settings(weights, max_memory_mib=1))


def test_check_too_many_views(weights, truth):
    """Too many views for the memory are refused before anything is computed."""

    class Untouched(OraclePointmaps):
        def check(self, views):
            pass

        def predict(self, views, pairs, progress):
            raise AssertionError("pointmaps are predicted")

    masks = Sam2Masks(settings(weights, max_memory_mib=21))
    masks.check(truth.views)
    named = [
        dataclasses.replace(view, name=f"{view.name}_{k}")
        for k in range(20)
        for view in truth.views
    ]
    with pytest.raises(ConfigError, match=f"too small for {len(named)} view"):
        build_scene(named, pointmaps=Untouched(truth), masks=masks)
    UpdatedMasks(masks, MaskCache((), (), ()), 0).check(truth.views)


def test_segment_half_precision(weights, truth):
    """Half precision runs and keeps the shapes."""
    made = run(Sam2Masks(settings(weights, dtype="bfloat16", anchors=1)), truth)
    assert [m.shape for m in made.labels] == [view.size for view in truth.views]
    assert all(np.isfinite(scores).all() for scores in made.scores)


def test_decode_clicks_not_rounded(weights, truth):
    """Against the encoding of Tancik et al. (NeurIPS 2020) in double precision."""
    network = Sam2Network(settings(weights, dtype="bfloat16"))
    encoding, seen = network.image_model.prompt_encoder.shared_embedding, []
    encoding.register_forward_hook(lambda _, __, out: seen.append(out.float().numpy()))
    view = truth.views[0]
    height, width = view.size
    click = np.array([width - 2.3, height - 3.4])
    network.decode(network.encode(view.image), click[None, None], np.ones((1, 1), np.int32))
    turns = 2 * (click + 0.5) / [width, height] - 1
    phase = 2 * np.pi * (turns @ encoding.positional_embedding.double().numpy())
    expected = np.concatenate([np.sin(phase), np.cos(phase)])
    # What is left is the rounding of the result; that of the click would be 0.1 and more.
    np.testing.assert_allclose(seen[0][0, 0, 0], expected, atol=2**-8)


def test_update_encodes_one_view(backend, cache, truth, monkeypatch):
    """Replacing one image encodes that view only."""
    encoded = []
    encode = backend.network.encode
    monkeypatch.setattr(
        backend.network, "encode", lambda image: encoded.append(image) or encode(image)
    )
    fresh = dataclasses.replace(truth.views[1], image=truth.views[1].image[:, ::-1].copy())
    views = [truth.views[0], fresh, truth.views[2]]
    made = backend.update(views, exact_alignment(truth), exact_world(truth), cache, 1, Progress())
    assert len(encoded) == 1
    assert encoded[0] is fresh.image
    for level, other in zip(made.maps, cache.maps, strict=True):
        for v in (0, 2):
            np.testing.assert_array_equal(level[v], other[v])
    assert any((a[1] != b[1]).any() for a, b in zip(made.maps, cache.maps, strict=True))
    assert not np.array_equal(made.embeddings[1][2], cache.embeddings[1][2])
    assert made.embeddings[0] is cache.embeddings[0]
    seen = set().union(*(np.unique(m).tolist() for level in made.maps for m in level)) - {0}
    assert seen == {each.object_id for each in made.objects}
    kept = {m.view: m.score for m in cache.objects[0].masks if m.view != 1}
    assert kept == {
        m.view: m.score for m in made.record(cache.objects[0].object_id).masks if m.view != 1
    }


def test_update_tracks_kept_embeddings(backend, weights, cache, truth, monkeypatch):
    """A replaced image is tracked where embeddings were kept."""
    module = importlib.import_module("wildseg3d_ros.masks.sam2.backend")
    calls = []

    def spy(network, embeddings, layers, anchor, order, objects, update):
        calls.append((anchor, tuple(order)))
        return track(network, embeddings, layers, anchor, order, objects, update)

    monkeypatch.setattr(module, "track", spy)
    given = truth.views, exact_alignment(truth), exact_world(truth)
    fractions = []
    progress = Progress(lambda _, fraction: fractions.append(fraction))
    backend.update(*given, cache, 1, progress)
    assert fractions == sorted(fractions)
    assert fractions[-1] == pytest.approx(1.0)
    # Its own masks into all others, and those of its neighbours into it.
    (anchor, order), *others = calls
    assert anchor == 1
    assert sorted(order) == [0, 1, 2]
    assert others
    assert all(v != 1 and way == (v, 1) for v, way in others)
    calls.clear()
    bare = dataclasses.replace(cache, embeddings=())
    made = backend.update(*given, bare, 1, Progress())
    assert calls == []
    assert made.embeddings == ()
    Sam2Masks(settings(weights, anchors=0)).update(*given, cache, 1, Progress())
    assert calls == []


def test_update_same_image(backend, cache, truth):
    """The same image again changes nothing."""
    made = backend.update(
        truth.views, exact_alignment(truth), exact_world(truth), cache, 1, Progress()
    )
    shared = [r for r in cache.objects if len(r.views) > 1 and 1 in r.views]
    for record in shared:
        level = LEVELS.index(record.level)
        mask = cache.maps[level][1] == record.object_id
        ids = np.unique(made.maps[level][1][mask])
        assert len(ids) == 1


def test_segment_cancelled(backend, cache, truth):
    """Cancelling leaves nothing behind and the back end usable."""
    for stop in (0.0, 0.3, 0.6, 0.8):
        reached = []

        def report(_, fraction, reached=reached):
            reached.append(fraction)

        with pytest.raises(Cancelled):
            run(
                backend,
                truth,
                Progress(
                    report,
                    lambda reached=reached, stop=stop: bool(reached) and reached[-1] >= stop,
                ),
            )
        assert reached[-1] < 1.0
    again = run(backend, truth)
    np.testing.assert_array_equal(again.labels[0], cache.labels[0])


def test_segment_progress(backend, truth):
    """Progress rises to one."""
    fractions = []
    run(backend, truth, Progress(lambda _, fraction: fractions.append(fraction)))
    assert fractions == sorted(fractions)
    assert fractions[-1] == pytest.approx(1.0)
    assert len(fractions) > 10


def test_segment_view_without_masks(weights, truth):
    """A view without masks is named and the others go on."""
    progress = Progress()
    made = run(Sam2Masks(settings(weights, predicted_iou=1.0)), truth, progress)
    assert made.object_ids == ()
    assert not any(m.any() for level in made.maps for m in level)
    assert len(progress.warnings) == 3
    said = "camera 'cam_0': no mask was found: of 108 masks were dropped 108 by predicted_iou"
    assert said in progress.warnings[0]


def test_segment_giant_mask(weights, truth):
    """One giant mask is background."""
    progress = Progress()
    made = run(Sam2Masks(settings(weights, max_area=0.01, min_area=0.009)), truth, progress)
    largest = max((m.area for each in made.objects for m in each.masks), default=0)
    assert largest <= 0.02 * 160 * 120


def test_segment_black_view_and_sizes(backend, truth):
    """A black view and views of different sizes."""
    small = construct_scene(views=3, width=96, height=72, objects=5)
    black = dataclasses.replace(truth.views[0], image=np.zeros_like(truth.views[0].image))
    views = [black, small.views[1], truth.views[2]]
    mixed = type(truth)(
        tuple(views),
        truth.world_from_cam,
        (truth.depths[0], small.depths[1], truth.depths[2]),
        (truth.labels[0], small.labels[1], truth.labels[2]),
        (truth.points[0], small.points[1], truth.points[2]),
        truth.solids,
    )
    progress = Progress()
    made = run(backend, mixed, progress, views=views)
    (warning,) = [w for w in progress.warnings if "image is black" in w]
    assert warning.startswith(f"camera '{black.name}'")
    assert [m.shape for m in made.labels] == [view.size for view in views]
    assert all(np.isfinite(scores).all() for scores in made.scores)


def test_segment_not_finite(weights, truth):
    """Values that are not finite are an error."""
    broken = Sam2Masks(settings(weights))
    with torch.no_grad():
        broken.network.image_model.mask_decoder.iou_prediction_head.proj_out.bias.fill_(np.nan)
    with pytest.raises(WildSeg3DError, match=r"mask decoder returned values.*not finite.*float32"):
        run(broken, truth)
    broken = Sam2Masks(settings(weights))
    with torch.no_grad():
        next(broken.network.video_model.memory_attention.parameters()).fill_(np.nan)
    with pytest.raises(WildSeg3DError, match="tracker returned values.*not finite"):
        run(broken, truth)
    with torch.no_grad():
        next(broken.network.image_model.vision_encoder.parameters()).fill_(np.nan)
    with pytest.raises(WildSeg3DError, match="image encoder returned values.*not finite"):
        run(broken, truth)


def test_pipeline_levels_built_saved_asked(backend, truth, tmp_path):
    """A scene with levels is built saved and asked."""
    scene = build_scene(
        truth.views, SceneConfig(), pointmaps=OraclePointmaps(truth), masks=backend
    )
    save_scene(scene, tmp_path / "scene.ws3d")
    again = load_scene(tmp_path / "scene.ws3d")
    for level, other in zip(scene.masks.maps, again.masks.maps, strict=True):
        for a, b in zip(level, other, strict=True):
            np.testing.assert_array_equal(a, b)
    assert len(scene.masks.objects) == len(again.masks.objects)
    for one, other in zip(scene.masks.objects, again.masks.objects, strict=True):
        assert (one.object_id, one.level, one.parent, one.unmasked) == (
            other.object_id,
            other.level,
            other.parent,
            other.unmasked,
        )
        for a, b in zip(one.masks, other.masks, strict=True):
            assert (a.view, a.area, a.box, a.score) == (b.view, b.area, b.box, b.score)
            np.testing.assert_array_equal(a.soft, b.soft)
    for one, other in zip(scene.masks.embeddings, again.masks.embeddings, strict=True):
        for a, b in zip(one, other, strict=True):
            np.testing.assert_array_equal(a, b)
    answered = 0
    for level in range(1, len(LEVELS)):
        for record in scene.masks.objects:
            if record.level != LEVELS[level] or not scene.index.count(record.object_id):
                continue
            v, u = np.argwhere(scene.masks.maps[level][record.views[0]] == record.object_id)[0]
            prompt = Prompt((Click(scene.view_names[record.views[0]], u, v),), LEVELS[level])
            cloud = segment(again, prompt)
            assert cloud.object_ids == (record.object_id,)
            assert len(cloud) == scene.index.count(record.object_id)
            answered += 1
    assert answered >= 2


def test_replace_view_masks_drops_embedding(backend, cache, truth, monkeypatch):
    """An image replaced without a network leaves no embedding of the old one."""
    fresh = truth.views[1].image[:, ::-1].copy()
    maps = np.stack([level[1][:, ::-1] for level in cache.maps])
    scores = cache.scores[1][:, ::-1].copy()
    aligned, world = exact_alignment(truth), exact_world(truth)
    visibility = Visibility.create(aligned.K, aligned.world_from_cam, world)
    made = replace_view_masks(cache, 1, maps, lambda _: scores, visibility, world)
    assert made.embeddings[1] == ()
    assert made.embeddings[0] is cache.embeddings[0]
    encoded = []
    encode = backend.network.encode
    monkeypatch.setattr(
        backend.network, "encode", lambda image: encoded.append(image) or encode(image)
    )
    images = [truth.views[0].image, fresh, truth.views[2].image]
    prompts = Sam2Prompts(backend.network, images, made.embeddings)
    point = ViewPrompts(np.array([[40.0, 30.0]]), np.array([True]))
    prompts.propose(0, point)
    assert encoded == []
    prompts.propose(1, point)
    assert encoded[0] is fresh


def test_segment_keep_embeddings(weights, truth):
    """Embeddings are kept only when asked."""
    made = run(Sam2Masks(settings(weights, keep_embeddings=False, anchors=0)), truth)
    assert made.embeddings == ()


@pytest.mark.parametrize("name", ["facebook/sam2.1-hiera-none", "/no/such/folder", "nothing"])
def test_sam2_network_absent_weights(name, monkeypatch, recwarn):
    """Absent weights come with the command and the way without."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(FileError, match=r"`hf download facebook/sam2.*'geometric' needs no"):
        Sam2Masks(Sam2MaskConfig(weights=name, device="cpu"))
    assert not [w for w in recwarn if "progress bar" in str(w.message)]


def test_sam2_network_hub_name_or_folder(monkeypatch, tmp_path):
    """A name in two parts is said to be looked for as a folder too."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileError) as error:
        Sam2Masks(settings("models/sam2"))
    assert f"there is no such file or folder (seen from {tmp_path})" in str(error.value)
    assert "no model of that name was downloaded" in str(error.value)


def test_sam2_network_damaged_weights(weights, tmp_path):
    """Other and damaged weights are named."""
    other = tmp_path / "other"
    shutil.copytree(weights, other)
    config = json.loads((other / "config.json").read_text())
    (other / "config.json").write_text(json.dumps({**config, "model_type": "bert"}))
    with pytest.raises(FileError, match="'bert'; expected one of edgetam"):
        Sam2Masks(settings(other))
    (other / "config.json").write_text(json.dumps(config))
    tensors = other / "model.safetensors"
    tensors.write_bytes(tensors.read_bytes()[:-1000])
    with pytest.raises(FileError, match="cannot load SAM 2 weights"):
        Sam2Masks(settings(other))


def test_sam2_network_missing_tensors(weights, tmp_path):
    """Missing tensors are an error and not random numbers."""
    from safetensors.torch import load_file, save_file

    other = tmp_path / "other"
    shutil.copytree(weights, other)
    tensors = load_file(other / "model.safetensors")
    del tensors["memory_encoder.projection.weight"]
    save_file(tensors, other / "model.safetensors", {"format": "pt"})
    with pytest.raises(FileError, match=r"not complete for Sam2VideoModel: 1 tensors"):
        Sam2Masks(settings(other))


def test_sam2_network_no_such_device(weights):
    """No such device."""
    with pytest.raises(ConfigError, match=r"masks.sam2.device 'cuda:97'"):
        Sam2Masks(settings(weights, device="cuda:97"))


@pytest.mark.parametrize(
    ("where", "value", "said"),
    [
        ("memory_attention_num_layers", 10**8, "memory_attention_num_layers is 100000000; no"),
        ("memory_attention_num_layers", 10**5, "far larger than its weights, which are 1.1 M"),
        ("mask_decoder_config.mlp_dim", 10**9, "mlp_dim is 1000000000; no network"),
        ("mask_decoder_config.mlp_dim", 64, "of another shape, such as .*mlp.*hf download"),
        ("mask_decoder_config.hidden_size", 10**30, "has more than 64 bits"),
        ("vision_config.backbone_config.window_size_per_stage.1", 20000, "20000; no network"),
        ("vision_config.backbone_config.query_stride.0", 3, "do not run as their config.json"),
        ("vision_config.backbone_feature_sizes.0", "x", "do not run as their config.json"),
        ("quantity", "[" * 10**5, "deep within each other"),
    ],
)
def test_sam2_network_absurd_description(weights, truth, tmp_path, where, value, said):
    """What no network has is refused before it takes time and memory."""
    other = tmp_path / "other"
    shutil.copytree(weights, other)
    path = other / "config.json"
    config = json.loads(path.read_text())
    *groups, name = where.split(".")
    part = config
    for group in groups:
        part = part[group]
    part[int(name) if isinstance(part, list) else name] = value
    text = json.dumps(config)
    path.write_text(text.replace(f'"{value}"', value) if name == "quantity" else text)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(FileError, match=said):
        Sam2Masks(settings(other)).network.encode(truth.views[0].image)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss < before + 300_000
