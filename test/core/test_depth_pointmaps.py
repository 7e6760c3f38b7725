"""The depth back end: pointmaps, poses of pairs, and what it says about bad input."""

from pathlib import Path

import numpy as np
import pytest

from wildseg3d_ros.core.errors import Cancelled, ErrorCode, InputError
from wildseg3d_ros.core.geometry.transforms import apply, invert, rotation_angle
from wildseg3d_ros.core.progress import Progress
from wildseg3d_ros.core.types import View
from wildseg3d_ros.io.folder import load_folder
from wildseg3d_ros.pairing import choose_pairs, pairs_from_exhaustive
from wildseg3d_ros.pointmaps import load_pointmaps
from wildseg3d_ros.pointmaps.config import PointmapConfig
from wildseg3d_ros.pointmaps.depth.backend import DepthPointmaps
from wildseg3d_ros.pointmaps.depth.config import DepthPointmapConfig
from wildseg3d_ros.sim.noise import DepthNoise
from wildseg3d_testing.scenes import construct_scene

ROOT = Path(__file__).resolve().parents[2]


def changed(view, **values):
    """The view with some of its fields replaced."""
    fields = ("name", "image", "K", "depth", "world_from_cam_prior", "stamp_ns", "frame_id")
    return View(**{name: values.get(name, getattr(view, name)) for name in fields})


def with_settings(**values):
    return DepthPointmaps(DepthPointmapConfig(**values))


def pose_errors(predictions, scene, posed=None):
    """Metres by which the table's middle moves, and radians, per prediction."""
    result = []
    for p in predictions:
        truth = invert(scene.world_from_cam[p.a]) @ scene.world_from_cam[p.b]
        off = (p.a_from_map_b if posed is None else posed(p)) @ invert(truth)
        middle = apply(invert(scene.world_from_cam[p.a]), np.zeros(3))
        result.append((np.linalg.norm(apply(off, middle) - middle), rotation_angle(off[:3, :3])))
    return np.array(result)


@pytest.fixture(scope="module")
def scene():
    """Four noisy cameras around a table, their poses wrong by millimetres."""
    return construct_scene(
        4,
        240,
        180,
        6,
        arc_degrees=100,
        depth_noise=DepthNoise(),
        translation_sigma=0.004,
        rotation_sigma=0.006,
    )


@pytest.fixture(scope="module")
def predictions(scene):
    return DepthPointmaps().predict(scene.views, pairs_from_exhaustive(4), Progress())


def test_load_pointmaps_depth():
    assert isinstance(load_pointmaps(PointmapConfig()), DepthPointmaps)


def test_predict_maps_are_shared_metric_and_in_their_own_frame(scene, predictions):
    assert [(p.a, p.b) for p in predictions] == pairs_from_exhaustive(4)
    maps = {}
    for p in predictions:
        assert p.metric
        for view, points, confidence in (
            (p.a, p.pointmap_a, p.confidence_a),
            (p.b, p.pointmap_b, p.confidence_b),
        ):
            assert points is maps.setdefault(view, (points, confidence))[0]
            assert confidence is maps[view][1]
            assert points.dtype == confidence.dtype == np.float32
    for view, (points, confidence) in maps.items():
        valid = confidence > 0
        assert valid.mean() > 0.5
        assert np.isfinite(points).all()
        assert points[valid][:, 2] == pytest.approx(scene.views[view].depth[valid], rel=1e-6)
        exact = apply(invert(scene.world_from_cam[view]), scene.points[view].astype(np.float64))
        off = np.linalg.norm(points - exact, axis=-1)[valid]
        assert np.median(off) < 0.003


def test_predict_gives_flying_pixels_little_confidence(scene, predictions):
    confidence = {p.b: p.confidence_b for p in predictions} | {0: predictions[0].confidence_a}
    wrong, right = [], []
    for k, view in enumerate(scene.views):
        error = np.abs(view.depth - scene.depths[k])
        seen = (view.depth > 0) & (scene.depths[k] > 0)
        wrong.append(confidence[k][seen & (error > 0.03)])
        right.append(confidence[k][seen & (error < 0.003)])
    wrong, right = np.concatenate(wrong), np.concatenate(right)
    assert len(wrong) > 50
    # What is left are pixels that read their neighbour's surface exactly.
    assert wrong.mean() < 0.3 * right.mean()


def test_predict_confidence_orders_the_errors(scene, predictions):
    view, confidence = scene.views[0], predictions[0].confidence_a
    valid = (confidence > 0) & (scene.depths[0] > 0)
    error = np.abs(view.depth - scene.depths[0])[valid]
    confident = confidence[valid] > np.median(confidence[valid])
    assert np.mean(error[confident]) < 0.5 * np.mean(error[~confident])


def test_predict_estimates_poses_far_better_than_given(scene, predictions):
    given = pose_errors(
        predictions,
        scene,
        lambda p: (
            invert(scene.views[p.a].world_from_cam_prior) @ scene.views[p.b].world_from_cam_prior
        ),
    )
    found = pose_errors(predictions, scene)
    assert np.median(given[:, 0]) > 0.005
    assert np.median(found[:, 0]) < 0.1 * np.median(given[:, 0])
    assert found[:, 0].max() < 0.002
    assert found[:, 1].max() < np.deg2rad(0.3)


def test_predict_without_refinement_keeps_the_given_poses(scene):
    for p in with_settings(refine=False).predict(scene.views, [(0, 1), (1, 2)], Progress()):
        a, b = (scene.views[k].world_from_cam_prior for k in (p.a, p.b))
        assert p.a_from_map_b == pytest.approx(invert(a) @ b, abs=1e-12)


def test_predict_finds_poses_without_any_given():
    scene = construct_scene(
        3, 320, 240, 8, arc_degrees=40, depth_noise=DepthNoise(), with_priors=False
    )
    found = DepthPointmaps().predict(scene.views, pairs_from_exhaustive(3), Progress())
    assert len(found) == 3
    assert pose_errors(found, scene)[:, 0].max() < 0.002


def test_predict_finds_the_one_pose_that_is_not_given():
    scene = construct_scene(3, 320, 240, 8, arc_degrees=40, depth_noise=DepthNoise())
    views = [*scene.views[:2], changed(scene.views[2], world_from_cam_prior=None)]
    found = DepthPointmaps().predict(views, pairs_from_exhaustive(3), Progress())
    assert {2} <= {p.b for p in found}
    assert pose_errors(found, scene)[:, 0].max() < 0.002


def test_predict_views_of_different_sizes_and_cameras(scene):
    view = scene.views[1]
    K = view.K.copy()
    K[1, 2] -= 20
    cropped = changed(view, image=view.image[20:-6], depth=view.depth[20:-6], K=K)
    views = [scene.views[0], cropped, *scene.views[2:]]
    found = DepthPointmaps().predict(views, [(0, 1), (1, 2)], Progress())
    assert found[0].pointmap_b.shape[:2] == cropped.size
    assert pose_errors(found, scene)[:, 0].max() < 0.002


def test_predict_nan_and_out_of_range_depth_is_no_point(scene):
    depth = scene.views[0].depth.copy()
    depth[:20] = np.nan
    depth[20:30] = np.inf
    depth[30:40] = -1.0
    depth[40:50] = 80.0
    depth[50:60] = 0.01
    views = [changed(scene.views[0], depth=depth), *scene.views[1:]]
    found = DepthPointmaps().predict(views, [(0, 1)], Progress())[0]
    assert (found.confidence_a[:60] == 0).all()
    assert np.isfinite(found.pointmap_a).all()
    assert np.isfinite(found.confidence_a).all()
    assert (found.confidence_a[60:] > 0).any()
    assert pose_errors([found], scene)[0, 0] < 0.003


class TestBadInput:
    def test_check_no_intrinsics(self, scene):
        views = [scene.views[0], changed(scene.views[1], K=None)]
        with pytest.raises(
            InputError, match=r"camera 'cam_1' has no intrinsics.*camera_info"
        ) as e:
            DepthPointmaps().check(views)
        assert e.value.code is ErrorCode.BAD_CALIBRATION

    def test_check_no_depth_image(self, scene):
        views = [changed(scene.views[0], depth=None), scene.views[1]]
        with pytest.raises(InputError, match=r"camera 'cam_0' has no depth image.*topic") as e:
            DepthPointmaps().check(views)
        assert e.value.code is ErrorCode.BAD_DEPTH

    @pytest.mark.parametrize(
        ("more", "chosen"),
        [({}, "=stereo .*: stereo, which takes the given"),
         ({"world_from_cam_prior": None}, "=da3 .*: da3 or mast3r.*or stereo, once"),
         ({"world_from_cam_prior": None, "K": None}, "=da3 .*: da3 or mast3r.*or stereo, once")],
    )  # fmt: skip
    def test_check_no_depth_at_all_names_back_ends_that_need_none(self, scene, more, chosen):
        views = [changed(view, depth=None, **more) for view in scene.views]
        with pytest.raises(InputError, match=f"no camera has a depth.*backend{chosen}") as error:
            DepthPointmaps().check(views)
        assert error.value.code is ErrorCode.BAD_DEPTH

    def test_check_no_valid_pixel(self, scene):
        empty = np.full(scene.views[0].size, np.nan, np.float32)
        views = [scene.views[0], changed(scene.views[1], depth=empty)]
        with pytest.raises(InputError, match=r"'cam_1' has no usable depth: every pixel") as e:
            DepthPointmaps().predict(views, [(0, 1)], Progress())
        assert e.value.code is ErrorCode.BAD_DEPTH

    def test_check_millimetres_taken_for_metres(self, scene):
        views = [scene.views[0], changed(scene.views[1], depth=1000 * scene.views[1].depth)]
        with pytest.raises(InputError, match=r"between \d+ and [\d.e+]+ m; expected .*unit"):
            DepthPointmaps().check(views)

    def test_check_good_views_pass(self, scene):
        DepthPointmaps().check(scene.views)


class TestOverlap:
    @pytest.fixture
    def apart(self, scene):
        """Two pairs of cameras in two rooms: no texture, no geometry in common."""
        other = construct_scene(2, 240, 180, 5, seed=9, arc_degrees=20)
        shift = np.eye(4)
        shift[:3, 3] = [50.0, 0.0, 0.0]
        moved = [
            changed(v, name=f"far_{k}", world_from_cam_prior=shift @ v.world_from_cam_prior)
            for k, v in enumerate(other.views)
        ]
        return [*scene.views[1:3], *moved]

    def test_predict_leaves_out_pairs_that_share_nothing(self, apart):
        pairs = pairs_from_exhaustive(4)
        found = DepthPointmaps().predict(apart, pairs, Progress())
        kept = {(p.a, p.b) for p in found}
        assert {(0, 1), (2, 3)} <= kept
        assert len(kept) == 3, "one given pose bridges the two rooms"
        (bridge,) = kept - {(0, 1), (2, 3)}
        p = next(p for p in found if (p.a, p.b) == bridge)
        a, b = (apart[k].world_from_cam_prior for k in bridge)
        assert p.a_from_map_b == pytest.approx(invert(a) @ b, abs=1e-9)

    def test_predict_names_groups_without_poses(self, apart):
        blind = [changed(view, world_from_cam_prior=None) for view in apart]
        # The two rooms look different; a table is a table, so their depth is flattened.
        for k in (2, 3):
            noise = np.random.default_rng(k).integers(0, 255, blind[k].image.shape, dtype=np.uint8)
            blind[k] = changed(blind[k], image=noise)
        with pytest.raises(InputError) as error:
            DepthPointmaps().predict(blind, pairs_from_exhaustive(4), Progress())
        assert error.value.code is ErrorCode.DISCONNECTED_VIEWS
        text = str(error.value)
        assert "['far_0']; ['far_1']" in text
        assert "transform_matrix" in text

    def test_predict_reports_a_refused_refinement(self, scene):
        strict = with_settings(prior_translation_sigma=0.0005, prior_rotation_sigma=0.0005)
        progress = Progress()
        found = strict.predict(scene.views, pairs_from_exhaustive(4), progress)
        assert len(found) == 6
        said = " ".join(progress.warnings)
        assert "registration ended" in said
        # Features find what the registration may not, and then what other pairs say is tried.
        for pair, b in ((found[0], 1), (found[1], 2)):
            truth = invert(scene.world_from_cam[0]) @ scene.world_from_cam[b]
            assert (pair.a, pair.b, pair.doubtful) == (0, b, False)
            np.testing.assert_allclose(pair.a_from_map_b, truth, atol=5e-3)


def test_predict_progress_grows_to_one(scene):
    seen = []
    progress = Progress(lambda stage, fraction: seen.append((stage, fraction)))
    with progress.stage("pointmaps"):
        DepthPointmaps().predict(scene.views, [(0, 1), (1, 2), (2, 3)], progress)
    fractions = [fraction for _, fraction in seen]
    assert fractions == sorted(fractions)
    assert fractions[-1] == 1.0
    assert len(set(fractions)) >= 7, "four views and three pairs"


@pytest.mark.parametrize("updates", [1, 6])
def test_predict_stops_on_cancellation(scene, updates):
    left = iter(range(updates))
    progress = Progress(cancelled=lambda: next(left, None) is None)
    with pytest.raises(Cancelled):
        DepthPointmaps().predict(scene.views, pairs_from_exhaustive(4), progress)
    # The next request works.
    assert DepthPointmaps().predict(scene.views, [(0, 1)], Progress())


def test_predict_is_repeatable(scene, predictions):
    again = DepthPointmaps().predict(scene.views, pairs_from_exhaustive(4), Progress())
    for first, second in zip(predictions, again, strict=True):
        assert np.array_equal(first.a_from_map_b, second.a_from_map_b)
        assert np.array_equal(first.confidence_b, second.confidence_b)


def test_predict_real_frames_agree_better_than_their_kinematics(real_data):
    views = load_folder(real_data("apc_shelf")).views[:4]
    found = DepthPointmaps().predict(views, choose_pairs(views), Progress())
    assert len(found) >= 5
    before, after = [], []
    for p in found:
        given = invert(views[p.a].world_from_cam_prior) @ views[p.b].world_from_cam_prior
        before.append(disagreement(p, given, views[p.a].K))
        after.append(disagreement(p, p.a_from_map_b, views[p.a].K))
    # Kinematics: millimetres; the registered pairs agree to the noise of the sensor.
    assert np.median(np.concatenate(after)) < 0.9 * np.median(np.concatenate(before))
    assert np.median(np.concatenate(after)) < 0.004


def disagreement(p, a_from_b, K):
    """Metres between b's points, seen from a, and a's depth, where the two are within 3 cm."""
    points = apply(a_from_b, p.pointmap_b[p.confidence_b > 0].astype(np.float64))
    uv = points[:, :2] / points[:, 2:] * [K[0, 0], K[1, 1]] + [K[0, 2], K[1, 2]]
    cols, rows = np.rint(uv).astype(int).T
    height, width = p.confidence_a.shape
    inside = (points[:, 2] > 0) & (cols >= 0) & (rows >= 0) & (cols < width) & (rows < height)
    cols, rows, z = cols[inside], rows[inside], points[inside, 2]
    gap = np.abs(z - p.pointmap_a[rows, cols, 2])
    return gap[(p.confidence_a[rows, cols] > 0) & (gap < 0.03)]
