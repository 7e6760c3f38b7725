"""The mast3r back end around its network: what it runs, what it makes of it, what it refuses."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest

torch = pytest.importorskip("torch")

from wildseg3d_ros import cli  # noqa: E402
from wildseg3d_ros.config import SceneConfig  # noqa: E402
from wildseg3d_ros.core import devices  # noqa: E402
from wildseg3d_ros.core.components import components  # noqa: E402
from wildseg3d_ros.core.errors import (  # noqa: E402
    ConfigError,
    ErrorCode,
    FileError,
    InputError,
    WildSeg3DError,
)
from wildseg3d_ros.core.progress import Progress  # noqa: E402
from wildseg3d_ros.core.types import View  # noqa: E402
from wildseg3d_ros.io.folder import Recording, load_folder, write_folder  # noqa: E402
from wildseg3d_ros.pairing import choose_pairs, pairs_from_exhaustive  # noqa: E402
from wildseg3d_ros.pairing.config import PairingConfig  # noqa: E402
from wildseg3d_ros.pipeline import build_scene  # noqa: E402
from wildseg3d_ros.pointmaps import ComparesViews, load_pointmaps  # noqa: E402
from wildseg3d_ros.pointmaps.mast3r import matching  # noqa: E402
from wildseg3d_ros.pointmaps.mast3r.inference import Inference  # noqa: E402
from wildseg3d_ros.pointmaps.mast3r.matching import matched_flags  # noqa: E402
from wildseg3d_ros.scene.file.snapshot import load_scene  # noqa: E402
from wildseg3d_testing.mast3r_weights import (  # noqa: E402
    TINY,
    network_by_rule,
    write_checkpoint,
)
from wildseg3d_testing.oracles import OracleMasks, OraclePointmaps  # noqa: E402
from wildseg3d_testing.scenes import construct_scene  # noqa: E402

pytestmark = pytest.mark.usefixtures("one_thread")

PAIRS = pairs_from_exhaustive(4)


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    return write_checkpoint(tmp_path_factory.mktemp("weights"))


@pytest.fixture(scope="module")
def scene():
    return construct_scene(4, 96, 64, 4, arc_degrees=60, with_depth=False)


def settings(weights, **values) -> SceneConfig:
    chosen = {"weights": str(weights), "device": "cpu", "image_size": 96} | values
    return SceneConfig.from_mapping({"pointmaps": {"backend": "mast3r", "mast3r": chosen}})


@pytest.fixture
def make(weights):
    return lambda **values: load_pointmaps(settings(weights, **values).pointmaps)


@pytest.fixture
def calls(monkeypatch):
    """Images and pairs that the network was given, call by call."""
    from wildseg3d_ros.pointmaps.mast3r.network import Mast3r

    seen = {"encode": [], "decode": []}
    encode, decode = Mast3r.encode, Mast3r.decode

    def count_images(network, images):
        seen["encode"].append(len(images))
        return encode(network, images)

    def count_pairs(network, one, two):
        seen["decode"].append(len(one.embedded))
        return decode(network, one, two)

    monkeypatch.setattr(Mast3r, "encode", count_images)
    monkeypatch.setattr(Mast3r, "decode", count_pairs)
    return seen


@pytest.fixture
def gpu_figures(monkeypatch):
    """A GPU's figures on a processor: half a gigabyte per pair, 2.4 of them free."""
    figures = {
        "memory_allocated": 1.0e9,
        "max_memory_allocated": 1.5e9,
        "memory_reserved": 1.2e9,
        "mem_get_info": (2.2e9, 8e9),
        "reset_peak_memory_stats": None,
    }
    for name, value in figures.items():
        monkeypatch.setattr(torch.cuda, name, lambda _, value=value: value)


def predict(backend, views, pairs=PAIRS, progress=None):
    return backend.predict(views, pairs, progress or Progress())


def same(first, second):
    assert [(p.a, p.b) for p in first] == [(p.a, p.b) for p in second]
    for p, q in zip(first, second, strict=True):
        for name in ("pointmap_a", "pointmap_b", "confidence_a", "confidence_b"):
            np.testing.assert_allclose(getattr(p, name), getattr(q, name), rtol=1e-4, atol=1e-5)


class TestCost:
    def test_predict_encodes_images_and_decodes_directions_once(self, make, scene, calls):
        found = predict(make(), scene.views)
        assert sum(calls["encode"]) == 4
        assert sum(calls["decode"]) == 12
        assert [(p.a, p.b) for p in found] == PAIRS + [(b, a) for a, b in PAIRS]

    def test_predict_one_direction_costs_half(self, make, scene, calls):
        found = predict(make(both_directions=False), scene.views)
        assert sum(calls["encode"]) == 4
        assert sum(calls["decode"]) == 6
        assert [(p.a, p.b) for p in found] == PAIRS

    def test_predict_does_not_encode_again_what_similarity_did(self, make, scene, calls):
        backend = make()
        backend.similarity(scene.views, Progress())
        predict(backend, scene.views)
        assert sum(calls["encode"]) == 4
        # Other images, of the same names: nothing of the old ones must come back.
        other = [replace(v, image=255 - v.image) for v in scene.views]
        backend.similarity(scene.views, Progress())
        same(predict(backend, other), predict(make(), other))

    def test_predict_batches_have_the_size_that_is_set(self, make, scene, calls):
        predict(make(batch_size=5), scene.views)
        assert calls["encode"] == [4]
        assert calls["decode"] == [5, 5, 2]


def test_predict_gives_the_networks_own_maps(make, scene, monkeypatch):
    """Shared parts and batches against the plain network, image by image."""
    network = network_by_rule(TINY)
    # Random weights find nothing alike.
    monkeypatch.setattr(matching, "MIN_SIMILARITY", -1.0)
    images = [torch.from_numpy(v.image).permute(2, 0, 1)[None] / 127.5 - 1.0 for v in scene.views]
    for p in predict(make(batch_size=3), scene.views):
        with torch.inference_mode():
            one, two = network(images[p.a], images[p.b])
        np.testing.assert_allclose(p.pointmap_a, one.points[0], rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(p.pointmap_b, two.points[0], rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(p.confidence_a, one.confidence[0], rtol=1e-4)
        np.testing.assert_allclose(p.confidence_b, two.confidence[0], rtol=1e-4)
        assert not p.metric
        assert np.array_equal(p.a_from_map_b, np.eye(4))
        flags = matched_flags(one.descriptors[0], two.descriptors[0])
        assert p.matched_a.any()
        assert not p.matched_a.all()
        assert (p.matched_a != flags[0].numpy()).mean() < 0.02
        assert (p.matched_b != flags[1].numpy()).mean() < 0.02


def test_predict_images_of_all_sizes_and_orientations(make, scene):
    sizes = [(64, 96), (96, 64), (200, 300), (123, 77)]
    views = [
        replace(v, image=cv2.resize(v.image, size[::-1]), K=None)
        for v, size in zip(scene.views, sizes, strict=True)
    ]
    found = predict(make(batch_size=4), views)
    assert len(found) == 12
    for p in found:
        assert p.pointmap_a.shape[:2] == views[p.a].size
        assert p.matched_b.shape == views[p.b].size
    same(found, predict(make(batch_size=1), views))


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_predict_with_shorter_numbers(make, scene, dtype):
    exact, short = predict(make(), scene.views), predict(make(dtype=dtype), scene.views)
    for p, q in zip(exact, short, strict=True):
        error = np.linalg.norm(p.pointmap_b - q.pointmap_b) / np.linalg.norm(p.pointmap_b)
        assert 1e-6 < error < 0.05


class TestMemory:
    @pytest.fixture
    def limited(self, monkeypatch):
        """Makes the network run out of memory above a number of pairs or images."""
        from wildseg3d_ros.pointmaps.mast3r.network import Mast3r

        def limit(max_count, error):
            encode, decode = Mast3r.encode, Mast3r.decode

            def encode_some(network, images):
                if len(images) > max_count:
                    raise error
                return encode(network, images)

            def decode_some(network, one, two):
                if len(one.embedded) > max_count:
                    raise error
                return decode(network, one, two)

            monkeypatch.setattr(Mast3r, "encode", encode_some)
            monkeypatch.setattr(Mast3r, "decode", decode_some)

        return limit

    @pytest.mark.parametrize(
        "error",
        [
            torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
            RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate"),
            MemoryError(),
        ],
    )
    def test_inference_halves_batches_with_a_warning_until_they_fit(
        self, make, scene, limited, error
    ):
        expected = predict(make(), scene.views)
        limited(1, error)
        progress = Progress()
        same(predict(make(batch_size=8), scene.views, progress=progress), expected)
        pairs = [text for text in progress.warnings if "pairs at a time" in text]
        assert len(pairs) == 3, "8, 4, 2, then it goes on with 1"
        assert "with 8 pairs at a time and goes on with 4" in pairs[0]
        assert "pointmaps.mast3r.batch_size=1 avoids the attempt" in pairs[-1]
        assert any("images at a time" in text for text in progress.warnings)

    def test_decode_measures_the_first_pair_on_a_gpu_and_fills_the_memory(
        self, scene, gpu_figures, calls
    ):
        run = Inference(network_by_rule(TINY))
        encoded = dict(enumerate(run.encode([view.image for view in scene.views])))
        run._device = torch.device("cuda")
        pairs = PAIRS + [(b, a) for a, b in PAIRS]
        assert [pair for pair, _, _ in run.decode(encoded, pairs)] == pairs
        assert calls["decode"] == [1, 3, 3, 3, 2], "four fifths of 2.4 GB are three pairs"

    def test_inference_not_even_one_fits(self, make, scene, limited):
        limited(0, torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"))
        with pytest.raises(WildSeg3DError, match=r"one of the images at a time.*image_size lower"):
            predict(make(), scene.views)

    def test_inference_says_what_weights_do_not_bear_out(self, make, scene, limited):
        limited(0, RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
        with pytest.raises(FileError, match="MASt3R weights do not run.*cannot be multiplied"):
            predict(make(), scene.views)


@pytest.fixture
def spoil(monkeypatch):
    """Changes the network's maps of some pairs: ``spoil(pairs, confidence=..., points=...)``."""

    def fill(old, value):
        new = torch.empty(old.shape)
        new[:] = value
        return new

    def change(pairs, **values):
        decode = Inference.decode

        def changed(run, encoded, asked):
            for pair, one, two in decode(run, encoded, asked):
                if pair in pairs:
                    one, two = (
                        replace(maps, **{n: fill(getattr(maps, n), v) for n, v in values.items()})
                        for maps in (one, two)
                    )
                yield pair, one, two

        monkeypatch.setattr(Inference, "decode", changed)

    return change


class TestPairsThatShareNothing:
    def test_predict_names_groups_that_share_nothing(self, make, scene, spoil):
        between = [(a, b) for a in (0, 2) for b in (1, 3)]
        spoil(between + [(b, a) for a, b in between], confidence=1.01)
        with pytest.raises(InputError, match=r"\['cam_0', 'cam_2'\]; \['cam_1', 'cam_3'\]") as e:
            predict(make(), scene.views)
        assert e.value.code is ErrorCode.DISCONNECTED_VIEWS
        assert "at most 1.01, needed 1.5" in str(e.value)
        assert "min_confidence" in str(e.value)

    def test_predict_leaves_out_a_pair_while_others_connect_the_views(self, make, scene, spoil):
        spoil([(0, 3), (3, 0)], confidence=1.2)
        progress = Progress()
        found = predict(make(), scene.views, progress=progress)
        assert len(found) == 10
        assert not {(0, 3), (3, 0)} & {(p.a, p.b) for p in found}
        assert "pair 'cam_0' - 'cam_3' is left out" in progress.warnings[0]

    def test_predict_keeps_a_pair_with_one_confident_corner(self, make, scene, spoil):
        corner = torch.ones(64, 96)
        corner[:24, :32] = 5.0
        everything = [(a, b) for a in range(4) for b in range(4)]
        spoil(everything, confidence=corner)
        assert len(predict(make(), scene.views)) == 12

    def test_predict_with_another_min_confidence(self, make, scene, spoil):
        spoil([(a, b) for a in range(4) for b in range(4)], confidence=1.01)
        assert len(predict(make(min_confidence=1.0), scene.views)) == 12


class TestNoNumbers:
    def test_predict_names_a_pair_without_numbers(self, make, scene, spoil):
        spoil([(1, 2)], points=float("nan"))
        with pytest.raises(InputError, match=r"for 100 % of the points of pair 'cam_1' - 'cam_2'"):
            predict(make(), scene.views)

    def test_predict_with_damaged_weights(self, make, scene):
        backend = make()
        with torch.no_grad():
            backend._network.decoders.dec_norm.weight[3] = float("nan")
        with pytest.raises(InputError, match=r"NaN or infinity.*in float32; are the weights"):
            predict(backend, scene.views)

    def test_predict_overflow_of_float16(self, make, scene):
        backend = make(dtype="float16")
        with torch.no_grad():
            backend._network.decoders.dec_norm.weight.fill_(6e4)
        with pytest.raises(InputError, match=r"in float16; float16 overflows: .*bfloat16"):
            predict(backend, scene.views)

    def test_predict_few_pixels_without_numbers_lose_their_confidence(self, make, scene, spoil):
        points = torch.ones(64, 96, 3)
        points[5, 7] = float("inf")
        spoil([(0, 1)], points=points)
        found = predict(make(), scene.views)[0]
        assert (found.a, found.b) == (0, 1)
        assert found.confidence_a[5, 7] == 0
        assert np.count_nonzero(found.confidence_a == 0) == 1
        assert np.isfinite(found.pointmap_a).all()


class TestManyViews:
    def test_similarity_orders_views(self, make, scene):
        backend = make()
        assert isinstance(backend, ComparesViews)
        # A view, the same a little darker, and two of another kind.
        first = scene.views[0]
        noise = np.random.default_rng(0).integers(0, 255, (2, 64, 96, 3), dtype=np.uint8)
        images = [first.image, (0.9 * first.image).astype(np.uint8), *noise]
        views = [View(f"v{k}", image) for k, image in enumerate(images)]
        similarity = backend.similarity(views, Progress())
        assert similarity.shape == (4, 4)
        assert np.allclose(similarity, similarity.T)
        assert (np.diag(similarity) == 0).all()
        assert ((similarity >= 0) & (similarity <= 1)).all()
        assert similarity[0, 1] > 2 * similarity[0, 2:].max()
        assert similarity[2, 3] > 2 * similarity[2, :2].max()

    def test_choose_pairs_by_similarity_is_bounded_and_connected(self, weights, calls):
        """Two kinds of views in turn: by their order alone, kinds would be mixed."""
        rng = np.random.default_rng(1)
        kinds = [rng.integers(0, 255, (64, 96, 3)).astype(float) for _ in range(2)]
        views = [
            View(f"v{k}", (kinds[k % 2] * (1 - 0.02 * k)).astype(np.uint8)) for k in range(10)
        ]
        backend = load_pointmaps(settings(weights).pointmaps)
        config = PairingConfig(max_pairs_per_view=5)
        pairs = choose_pairs(views, config, lambda v: backend.similarity(v, Progress()))
        assert set(components(10, pairs)) == {0}
        alike = [(a, b) for a, b in pairs if (a - b) % 2 == 0]
        beyond_order = [(a, b) for a, b in pairs if b - a > 1]
        assert len(beyond_order) >= 8
        assert len(set(beyond_order) - set(alike)) <= 2
        assert sum(calls["encode"]) == 10

    def test_build_scene_asks_for_similarity_and_encodes_once(self, weights, calls):
        truth = construct_scene(9, 96, 64, 4, arc_degrees=120, with_depth=False, with_priors=False)
        scene = build_scene(truth.views, settings(weights), masks=OracleMasks(truth))
        assert sum(calls["encode"]) == 9
        edges = scene.alignment.edges
        assert sum(calls["decode"]) == len(edges) < 9 * 8


class TestWholeBuild:
    def test_build_a_folder_of_plain_images_by_configuration_alone(
        self, weights, tmp_path, capsys
    ):
        """No calibration, no poses; grey and colour, several sizes, landscape and portrait."""
        scene = construct_scene(3, 96, 64, 4, arc_degrees=40)
        images = tmp_path / "images"
        images.mkdir()
        pictures = [view.image[..., ::-1] for view in scene.views]
        cv2.imwrite(str(images / "a.png"), pictures[0])
        cv2.imwrite(str(images / "b.png"), cv2.cvtColor(pictures[1], cv2.COLOR_BGR2GRAY))
        cv2.imwrite(str(images / "c.png"), cv2.resize(pictures[2], (90, 140)))
        config = tmp_path / "rig.yaml"
        config.write_text(
            f"pointmaps: {{backend: mast3r, mast3r: {{weights: {weights}, image_size: 96}}}}\n"
        )
        output = tmp_path / "scene.ws3d"
        words = ["build", images, "-o", output, "--config", config]
        # Random weights see no common scene, which the exit code says.
        assert cli.main([str(word) for word in words]) == 3
        scene = load_scene(output)
        assert [world.shape[:2] for world in scene.world.points] == [(64, 96), (64, 96), (140, 90)]
        text, errors = capsys.readouterr()
        assert "not to be relied on: the pairs contradict each other throughout" in errors
        assert "no intrinsics are given for camera 'a'" in text
        assert "no camera pose is given" in text

    def test_build_scene_with_poses_and_no_intrinsics(self, weights, tmp_path):
        """Its pairs are those of a network, so that only the way in is looked at."""
        truth = construct_scene(3, 96, 64, 4, arc_degrees=40, with_depth=False)
        bare = tuple(replace(view, K=None) for view in truth.views)
        write_folder(tmp_path, Recording(bare))
        views = load_folder(tmp_path).views
        assert all(view.K is None for view in views)
        scene = build_scene(
            views,
            settings(weights),
            pointmaps=OraclePointmaps(truth, scale_spread=0.5),
            masks=OracleMasks(truth),
        )
        assert scene.alignment.scale_sources == ("camera poses",)
        for K, expected in zip(scene.K, truth.views, strict=True):
            assert K[0, 0] == pytest.approx(expected.K[0, 0], rel=0.02)
        assert any("no intrinsics are given" in warning for warning in scene.warnings)
        found = predict(load_pointmaps(settings(weights).pointmaps), views, [(0, 1)])
        assert [(p.a, p.b) for p in found] == [(0, 1), (1, 0)]

    def test_build_names_the_command_for_absent_weights(self, tmp_path, capsys):
        cv2.imwrite(str(tmp_path / "a.png"), np.zeros((64, 96, 3), np.uint8))
        cv2.imwrite(str(tmp_path / "b.png"), np.zeros((64, 96, 3), np.uint8))
        words = ["build", tmp_path, "-o", tmp_path / "scene.ws3d"]
        words += ["--set", "pointmaps.backend=mast3r"]
        words += ["--set", f"pointmaps.mast3r.weights={tmp_path}/none.safetensors"]
        assert cli.main([str(word) for word in words]) != 0
        said = capsys.readouterr().err
        assert "hf download naver/MASt3R_ViTLarge_BaseDecoder_512_catmlpdpt_metric" in said
        assert "Traceback" not in said

    def test_build_scene_of_one_view(self, weights, scene):
        with pytest.raises(InputError, match="at least 2") as error:
            build_scene(scene.views[:1], settings(weights))
        assert error.value.code is ErrorCode.TOO_FEW_VIEWS

    @pytest.mark.parametrize(
        "size", [(4, 4), (16, 16), (1, 16), (16, 1), (2, 8), (16, 640), (640, 16), (31, 400)]
    )
    def test_build_scene_refuses_a_tiny_image(self, weights, scene, size):
        """In all, along a side, or across one."""
        height, width = size
        tiny = replace(scene.views[1], image=np.zeros((*size, 3), np.uint8), K=None)
        with pytest.raises(
            InputError, match=rf"'cam_1': its image of {width}x{height} pixels is too small"
        ) as error:
            build_scene([scene.views[0], tiny, *scene.views[2:]], settings(weights))
        assert error.value.code is ErrorCode.BAD_IMAGE
        assert "needs 32 pixels on the shorter side" in str(error.value)

    @pytest.mark.parametrize("size", [(32, 32), (32, 96), (96, 32)])
    def test_predict_the_smallest_image(self, make, scene, size):
        smallest = replace(
            scene.views[1], image=cv2.resize(scene.views[1].image, size[::-1]), K=None
        )
        found = predict(make(), [scene.views[0], smallest], [(0, 1)])
        assert found[0].pointmap_b.shape == (*size, 3)
        assert np.isfinite(found[0].pointmap_b).all()

    def test_predict_grey_images_without_any_texture(self, make):
        """Plain grey is no defect of the images: the network just has little confidence."""
        views = [View(f"v{k}", np.full((64, 96, 3), 128, np.uint8)) for k in range(2)]
        with pytest.raises(InputError, match="cannot relate") as error:
            predict(make(min_confidence=50.0), views, [(0, 1)])
        assert error.value.code is ErrorCode.DISCONNECTED_VIEWS


class TestMemoryOfThePredictions:
    """Maps are kept in the images' pixels: 17 bytes for each pixel of both views of a pair."""

    NEEDED = 17 * 2 * 96 * 64 * 12

    @pytest.fixture
    def free(self, monkeypatch, tmp_path):
        """Sets what the kernel says, in bytes."""
        monkeypatch.setattr(devices, "_CGROUP", tmp_path)
        monkeypatch.setattr(devices, "_MEMINFO", tmp_path / "meminfo")

        def write(count):
            text = f"MemTotal: 99999999 kB\nMemAvailable: {count // 1024} kB\nHugePages_Free: 0\n"
            (tmp_path / "meminfo").write_text(text)

        return write

    def test_check_memory_refuses_before_the_network_runs(self, make, scene, calls, free):
        free(int(self.NEEDED / 0.8) - 2048)
        with pytest.raises(ConfigError) as error:
            predict(make(), scene.views)
        text = str(error.value)
        assert "12 directed pairs of 96x64 images take 0.0 GB" in text
        assert "pairing.max_pairs_per_view" in text
        assert "both_directions: false" in text
        assert not calls["encode"]

    def test_check_memory_one_direction_takes_half(self, make, scene, free):
        free(int(self.NEEDED / 0.8) - 2048)
        assert len(predict(make(both_directions=False), scene.views)) == 6

    def test_check_memory_foretells_what_is_taken(self, make, scene, free):
        free(int(self.NEEDED / 0.8) + 2048)
        made = predict(make(), scene.views)
        names = [
            f"{kind}_{side}" for kind in ("pointmap", "confidence", "matched") for side in "ab"
        ]
        assert sum(getattr(p, name).nbytes for p in made for name in names) == self.NEEDED

    def test_available_memory_of_a_container(self, free, tmp_path):
        free(8 << 30)
        (tmp_path / "memory.max").write_text("1000000\n")
        (tmp_path / "memory.stat").write_text("anon 400000\nfile 500000\n")
        assert devices.available_memory() == 600000
        (tmp_path / "memory.max").write_text("max\n")
        assert devices.available_memory() == 8 << 30

    def test_available_memory_without_figures(self, make, scene, free):
        assert devices.available_memory() is None
        assert len(predict(make(), scene.views)) == 12


class TestKeepOnDevice:
    """Maps brought back by torch against those brought back by OpenCV."""

    SIZES = ((200, 300), (64, 96), (123, 77), (61, 97))

    @pytest.fixture
    def views(self, scene):
        return [
            replace(v, image=cv2.resize(v.image, size[::-1]), K=None)
            for v, size in zip(scene.views, self.SIZES, strict=True)
        ]

    def test_predict_gives_the_same_numbers_as_tensors(self, make, views, monkeypatch):
        monkeypatch.setattr(matching, "MIN_SIMILARITY", -1.0)
        kept = predict(make(keep_on_device=True), views)
        for p, q in zip(kept, predict(make(), views), strict=True):
            assert (p.a, p.b, p.roughly_metric) == (q.a, q.b, q.roughly_metric)
            for name in ("pointmap", "confidence", "matched"):
                for side in "ab":
                    ours, theirs = (getattr(each, f"{name}_{side}") for each in (p, q))
                    assert isinstance(ours, torch.Tensor) and not ours.is_inference()
                    assert ours.is_contiguous() and str(ours.dtype).endswith(str(theirs.dtype))
                    close = np.isclose(ours, theirs, rtol=1e-5, atol=1e-6)
                    # Rounding may take a step of just the limit for an edge, or not.
                    assert close.mean() > 0.999
            assert p.matched_a.any() and not p.matched_a.all()

    def test_predict_leaves_out_the_same_pairs(self, make, views):
        confidence = np.quantile(predict(make(min_confidence=0.0), views)[3].confidence_b, 0.9)
        asked = {"min_confidence": float(confidence) * 1.0001}
        progress, other = Progress(), Progress()
        kept = predict(make(keep_on_device=True, **asked), views, progress=progress)
        expected = predict(make(**asked), views, progress=other)
        assert [(p.a, p.b) for p in kept] == [(p.a, p.b) for p in expected]
        assert progress.warnings == other.warnings != []

    def test_predict_without_numbers(self, make, views, spoil):
        points = torch.ones(64, 96, 3)
        points[5, 7] = float("inf")
        spoil([(1, 0)], points=points)
        found = {(p.a, p.b): p for p in predict(make(keep_on_device=True), views)}[1, 0]
        assert torch.count_nonzero(found.confidence_a == 0) == 1
        assert found.pointmap_a.isfinite().all()
        spoil([(0, 1)], points=float("nan"))
        with pytest.raises(InputError, match=r"for 100 % of the points of pair 'cam_0' - 'cam_1'"):
            predict(make(keep_on_device=True), views)

    @pytest.mark.parametrize("share", [0.0, 0.6])
    def test_decode_leaves_room_for_the_maps(self, scene, gpu_figures, calls, share):
        run = Inference(network_by_rule(TINY), reserved=int(share * 2.4e9))
        encoded = dict(enumerate(run.encode([view.image for view in scene.views])))
        run._device = torch.device("cuda")
        assert [pair for pair, _, _ in run.decode(encoded, PAIRS)] == PAIRS
        assert calls["decode"] == ([1, 3, 2] if share == 0 else [1] * 6)

    def test_check_memory_asks_the_device(self, make, scene, monkeypatch):
        backend = make(keep_on_device=True)
        monkeypatch.setattr(type(backend), "_device", torch.device("cuda", 1))
        monkeypatch.setattr(
            "wildseg3d_ros.pointmaps.mast3r.backend.free_on_gpu",
            lambda device: 1000 + device.index,
        )
        with pytest.raises(ConfigError, match=r"0.0 GB of memory are free on cuda:1.*keep_on_dev"):
            predict(backend, scene.views)
