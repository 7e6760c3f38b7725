"""The da3 back end around its network: sizes, scale, noise, and what it refuses."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest

torch = pytest.importorskip("torch")

from wildseg3d_ros import cli  # noqa: E402
from wildseg3d_ros.alignment import Aligner  # noqa: E402
from wildseg3d_ros.core.errors import ConfigError, ErrorCode, InputError, WildSeg3DError  # noqa: E402
from wildseg3d_ros.core.geometry.similarity import umeyama  # noqa: E402
from wildseg3d_ros.core.geometry.transforms import apply  # noqa: E402
from wildseg3d_ros.core.progress import Progress  # noqa: E402
from wildseg3d_ros.core.types import View  # noqa: E402
from wildseg3d_ros.io.folder import Recording, write_folder  # noqa: E402
from wildseg3d_ros.pairing import pairs_from_exhaustive  # noqa: E402
from wildseg3d_ros.pipeline import build_scene  # noqa: E402
from wildseg3d_ros.pointmaps.da3.backend import Da3Pointmaps  # noqa: E402
from wildseg3d_ros.pointmaps.da3.config import Da3PointmapConfig  # noqa: E402
from wildseg3d_ros.pointmaps.da3.images import DEVIATION, MEAN, Fitting  # noqa: E402
from wildseg3d_ros.scene.file.snapshot import load_scene  # noqa: E402
from wildseg3d_testing.da3_oracle import OracleNetwork  # noqa: E402
from wildseg3d_testing.da3_weights import network_by_rule, write_checkpoint  # noqa: E402
from wildseg3d_testing.oracles import OracleMasks  # noqa: E402
from wildseg3d_testing.scenes import construct_scene, fan_poses  # noqa: E402

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def truth():
    """At the size of the network, so that its maps are the images'."""
    return construct_scene(4, 336, 252, 5, poses=fan_poses(4, 12.0), with_depth=False)


def backend(network, **values) -> Da3Pointmaps:
    return Da3Pointmaps(
        Da3PointmapConfig(**{"image_size": 336, "device": "cpu"} | values), network
    )


def predict(network, views, **values):
    pairs = pairs_from_exhaustive(len(views))
    return backend(network, **values).predict(views, pairs, Progress())


def without(views, *fields, only=None):
    """Views that do not say something."""
    return [
        replace(view, **dict.fromkeys(fields)) if only is None or k in only else view
        for k, view in enumerate(views)
    ]


def plain(views):
    return [replace(view, image=np.full_like(view.image, 120)) for view in views]


def world_errors(truth, predictions, views, aligned=False):
    """Distances [m] of all world points to the true ones, after a similarity if asked for."""
    aligner = Aligner(predictions, views)
    alignment, world = aligner.solve(), aligner.fuse()
    seen = [world.valid(k) & (truth.depths[k] > 0) for k in range(len(views))]
    found = np.concatenate([world.points[k][m] for k, m in enumerate(seen)]).astype(float)
    expected = np.concatenate([truth.points[k][m] for k, m in enumerate(seen)]).astype(float)
    if aligned:
        scale, moved = umeyama(found[::50], expected[::50])
        found = apply(moved, scale * found)
    return alignment, np.linalg.norm(found - expected, axis=1)


class TestScale:
    def test_predict_known_poses_give_metres(self, truth):
        """True depth in an unknown unit and world, with smooth errors of 1 %."""
        network = OracleNetwork(truth, noise=0.01)
        predictions = predict(network, truth.views)
        assert network.given is not None
        assert network.given.shape == (4, 9)
        assert all(p.metric and p.scale_source == "camera poses" for p in predictions)
        # One map per view, shared by its pairs.
        assert len({id(p.pointmap_a) for p in predictions}) == 3
        alignment, errors = world_errors(truth, predictions, truth.views)
        assert alignment.metric
        assert alignment.scale_sources == ("camera poses",)
        assert np.median(errors) < 0.008  # 1 % of 0.7 m

    def test_predict_two_posed_views(self):
        """One baseline, of which an alignment of camera centres would say nothing."""
        truth = construct_scene(2, 336, 252, 5, poses=fan_poses(2, 12.0), with_depth=False)
        _, errors = world_errors(truth, predict(OracleNetwork(truth), truth.views), truth.views)
        assert np.median(errors) < 0.004

    def test_predict_some_posed_views(self, truth):
        """The others stand where the network sees them; it is given no cameras then."""
        views = without(truth.views, "world_from_cam_prior", only=(1, 3))
        network = OracleNetwork(truth)
        predictions = predict(network, views)
        assert network.given is None
        alignment, errors = world_errors(truth, predictions, views)
        assert alignment.metric
        assert np.median(errors) < 0.005

    def test_predict_without_poses(self, truth):
        """Up to a similarity, all is right."""
        views = without(truth.views, "world_from_cam_prior")
        predictions = predict(OracleNetwork(truth), views)
        assert not any(p.metric for p in predictions)
        alignment, errors = world_errors(truth, predictions, views, aligned=True)
        assert not alignment.metric
        assert np.median(errors) < 1e-4

    def test_predict_without_intrinsics(self, truth):
        """The network's fields of view stand for them."""
        views = without(truth.views, "K")
        alignment, errors = world_errors(truth, predict(OracleNetwork(truth), views), views)
        focal = truth.views[0].K[0, 0]
        np.testing.assert_allclose(alignment.K[:, 0, 0], focal, rtol=0.02)
        assert np.median(errors) < 0.006

    def test_predict_scene_without_texture(self, truth):
        """The network's cameras give the scale where nothing can be triangulated."""
        views = plain(truth.views)
        _, errors = world_errors(truth, predict(OracleNetwork(truth), views), views)
        assert np.median(errors) < 1e-4

    def test_predict_one_camera_that_fits_no_scale(self, truth):
        network = OracleNetwork(truth, distortion=(1.0, 1.4, 1.0, 1.0))
        with pytest.raises(InputError, match=r"at any scale.*'cam_1' 0\.2") as error:
            predict(network, truth.views)
        assert error.value.code is ErrorCode.BAD_CALIBRATION
        assert "pointmaps.da3.max_disagreement" in str(error.value)
        assert predict(network, truth.views, max_disagreement=0.5)[0].metric

    def test_predict_one_camera_off_by_less_than_is_refused(self, truth):
        """Its depth fits the common scale to 9 %: the alignment names the camera, and corrects
        it by the others."""
        pose = truth.views[1].world_from_cam_prior.copy()
        pose[:3, 3] += 0.06 * pose[:3, 2]
        views = [replace(v, world_from_cam_prior=pose) if k == 1 else v
                 for k, v in enumerate(truth.views)]  # fmt: skip
        predictions = predict(OracleNetwork(truth), views)
        alignment, errors = world_errors(truth, predictions, views)
        assert any("pose of camera 'cam_1' is 5" in text for text in alignment.warnings)
        assert np.linalg.norm(alignment.world_from_cam[1] - truth.world_from_cam[1]) < 0.02
        assert np.median(errors) < 0.012

    def test_predict_poses_the_wrong_way_round(self, truth):
        views = [
            replace(view, world_from_cam_prior=np.linalg.inv(view.world_from_cam_prior))
            for view in truth.views
        ]
        with pytest.raises(InputError, match="at any scale|nothing tells the scale"):
            predict(OracleNetwork(truth), views)

    @pytest.mark.parametrize("wrong", ["turned", "one place"])
    def test_predict_without_texture_and_with_wrong_poses(self, truth, wrong):
        views, pose = plain(truth.views), truth.views[0].world_from_cam_prior
        given = (
            [pose] * 4 if wrong == "one place" else [v.world_from_cam_prior for v in views][::-1]
        )
        views = [replace(v, world_from_cam_prior=p) for v, p in zip(views, given, strict=True)]
        with pytest.raises(InputError, match="no scale|nothing tells the scale") as error:
            predict(OracleNetwork(truth), views)
        assert error.value.code is ErrorCode.BAD_CALIBRATION


class TestNoise:
    def test_predict_confidence_is_that_of_the_deviation(self, truth):
        """1 cm over the share of the depth that is set or that matches show, more where the
        network is less sure, none between two surfaces."""
        quiet, noisy = (
            predict(OracleNetwork(truth, noise=noise), truth.views)[0] for noise in (0.0, 0.05)
        )
        inside = quiet.confidence_a > 0
        sigma = 0.01 / quiet.confidence_a[inside] / quiet.pointmap_a[..., 2][inside]
        assert np.median(sigma) == pytest.approx(0.01, rel=0.2)
        assert np.median(noisy.confidence_a) < 0.5 * np.median(quiet.confidence_a)
        # What the oracle is unsure of is 30 m away and five times as unsure.
        far = truth.depths[0] == 0
        if far.any():
            assert quiet.confidence_a[far].max() < quiet.confidence_a[~far].max() / 50

    def test_predict_lower_confidence_of_an_unsure_half(self, truth):
        class Unsure(OracleNetwork):
            def __call__(self, images, cameras, *, step):
                maps = super().__call__(images, cameras, step=step)
                maps[0].confidence[:, :100] /= 2
                return maps

        before = predict(OracleNetwork(truth), truth.views)[0].confidence_a
        after = predict(Unsure(truth), truth.views)[0].confidence_a
        left, right = np.median(after[:, :90]), np.median(after[:, 110:])
        assert left / right == pytest.approx(
            0.5 * np.median(before[:, :90]) / np.median(before[:, 110:]), rel=0.05
        )


class TestSizes:
    @pytest.mark.parametrize(
        ("size", "inner"),
        [
            ((480, 640), (378, 504)),
            ((720, 1280), (280, 504)),
            ((1080, 1920), (280, 504)),
            ((640, 480), (504, 378)),
            ((400, 400), (504, 504)),
            ((300, 400), (378, 504)),
        ],
    )
    def test_fitting_sizes_are_the_authors(self, size, inner):
        fitting = Fitting.of(View("a", np.zeros((*size, 3), np.uint8)), 504, 14)
        assert fitting.inner == inner

    def test_fitting_applies_the_networks_normalisation(self):
        image = np.random.default_rng(0).integers(0, 255, (48, 64, 3), dtype=np.uint8)
        fitting = Fitting.of(View("a", image), 112, 14)
        found = fitting.apply(image)
        assert found.shape == (3, 84, 112)
        expected = cv2.resize(image, (112, 84), interpolation=cv2.INTER_CUBIC)
        back = 255 * (found.transpose(1, 2, 0) * DEVIATION + MEAN)
        np.testing.assert_allclose(back, expected, atol=1e-3)

    def test_fitting_intrinsics_there_and_back(self):
        """A ray keeps its place: outer edges of images fall together."""
        fitting = Fitting.of(View("a", np.zeros((720, 1280, 3), np.uint8)), 504, 14)
        K = np.array([[900.0, 0, 640.5], [0, 910.0, 350.2], [0, 0, 1]])
        there = fitting.to_network(K)
        np.testing.assert_allclose(fitting.to_image(there), K, atol=1e-9)
        rows, cols = fitting.inner
        for point in ([0.3, -0.2, 1.0], [-0.5, 0.1, 1.0]):
            u, v, _ = K @ point
            expected = (u + 0.5) * cols / 1280 - 0.5, (v + 0.5) * rows / 720 - 0.5
            np.testing.assert_allclose((there @ point)[:2], expected, atol=1e-9)

    def test_restore_planes_exactly_and_steps_sharply(self):
        """A plane is linear in its pixels; beside a step nothing lies in between."""
        fitting = Fitting.of(View("a", np.zeros((240, 320, 3), np.uint8)), 112, 14)
        rows, cols = fitting.inner
        u, v = np.meshgrid(np.arange(cols), np.arange(rows))
        plane = (1.0 + 0.002 * u + 0.001 * v).astype(np.float32)
        plane[:, 60:] += 1.0
        depth, _ = fitting.restore(plane, plane, 100.0)
        u, v = np.meshgrid(np.arange(320), np.arange(240))
        x, y = (u + 0.5) * cols / 320 - 0.5, (v + 0.5) * rows / 240 - 0.5
        expected = 1.0 + 0.002 * x + 0.001 * y + (x > 59.5)
        inside = (x > 0) & (x < cols - 1) & (y > 0) & (y < rows - 1)
        assert np.abs(depth - expected)[inside].max() < 0.003

    def test_predict_maps_come_back_to_the_images_pixels(self):
        """Images of another size than the network's."""
        truth = construct_scene(3, 400, 300, 5, poses=fan_poses(3, 12.0), with_depth=False)
        predictions = predict(OracleNetwork(truth), truth.views)
        _, errors = world_errors(truth, predictions, truth.views)
        assert predictions[0].pointmap_a.shape == (300, 400, 3)
        assert np.median(errors) < 0.004

    def test_predict_gives_the_networks_own_maps(self, tmp_path):
        """Through the weights' file, against the plain network."""
        truth = construct_scene(3, 84, 56, 4, with_depth=False, with_priors=False)
        folder = write_checkpoint(tmp_path)
        predictions = predict(None, truth.views, weights=str(folder), image_size=84)
        images = [torch.from_numpy(Fitting.of(v, 84, 14).apply(v.image)) for v in truth.views]
        with torch.inference_mode():
            maps = network_by_rule()(images)
        for p in predictions:
            for view, points in ((p.a, p.pointmap_a), (p.b, p.pointmap_b)):
                np.testing.assert_allclose(points[..., 2], maps[view].depth, rtol=1e-4)


class TestRefused:
    def test_load_image_size_that_is_no_multiple(self, tmp_path):
        with pytest.raises(
            ConfigError, match="multiple of 14, got 500; the nearest are 490 and 5"
        ):
            backend(None, weights=str(write_checkpoint(tmp_path)), image_size=500)

    @pytest.mark.parametrize("share", [1.0, 0.001])
    def test_predict_depth_that_is_no_number(self, truth, share):
        class Broken(OracleNetwork):
            def __call__(self, images, cameras, *, step):
                maps = super().__call__(images, cameras, step=step)
                maps[1].depth.view(-1)[: int(share * maps[1].depth.numel())] = float("nan")
                return maps

        if share == 1.0:
            with pytest.raises(InputError, match="gave no numbers .* 100 % of the pixels"):
                predict(Broken(truth), truth.views)
            return
        found = predict(Broken(truth), truth.views)[0]
        assert np.isfinite(found.pointmap_b).all()
        assert (found.confidence_b.reshape(-1)[: int(share * 252 * 336)] == 0).all()

    @pytest.mark.parametrize(("value", "said"), [(float("nan"), "no numbers"), (0.0, "no field")])
    def test_predict_camera_that_is_none(self, truth, value, said):
        class Broken(OracleNetwork):
            def __call__(self, images, cameras, *, step):
                maps = super().__call__(images, cameras, step=step)
                maps[1].camera[:] = torch.tensor([0.0, 0, 0, 0, 0, 0, 1, value, value])
                return maps

        with pytest.raises(InputError, match=said):
            predict(Broken(truth), without(truth.views, "K", "world_from_cam_prior"))

    def test_predict_without_memory(self, truth):
        class Large(OracleNetwork):
            def __call__(self, images, cameras, *, step):
                raise torch.OutOfMemoryError("CUDA out of memory")

        with pytest.raises(WildSeg3DError, match="4 views at once .*image_size lower"):
            predict(Large(truth), truth.views)


def test_build_scene_answers_in_metres(truth):
    """The whole pipeline, the oracle in the network's place."""
    scene = build_scene(
        truth.views, pointmaps=backend(OracleNetwork(truth)), masks=OracleMasks(truth)
    )
    assert scene.alignment.metric
    for label in truth.object_ids:
        mask = truth.labels[0] == label
        found = scene.world.points[0][mask & scene.world.valid(0)]
        assert np.median(truth.distance_to_object(label, found)) < 0.005


def test_cli_builds_from_a_folder_of_images(tmp_path):
    """By configuration alone: weights from a folder, images and nothing else."""
    truth = construct_scene(3, 126, 84, 4, arc_degrees=30, with_depth=False, with_priors=False)
    write_folder(tmp_path / "recording", Recording(tuple(without(truth.views, "K"))))
    weights = write_checkpoint(tmp_path / "weights")
    words = ["build", str(tmp_path / "recording"), "-o", str(tmp_path / "scene.ws3d"), "--quiet"]
    for setting in ("backend=da3", f"da3.weights={weights}", "da3.image_size=126"):
        words += ["--set", f"pointmaps.{setting}"]
    assert cli.main(words) == 0
    scene = load_scene(tmp_path / "scene.ws3d")
    assert not scene.alignment.metric
    assert len(scene.world.points) == 3
