from __future__ import annotations

import numpy as np
import pytest

from wildseg3d_ros.core.errors import PromptError
from wildseg3d_ros.core.geometry.voxel_grid import VoxelGrid
from wildseg3d_ros.core.types import ObjectCloud, ViewMasks
from wildseg3d_ros.scene.voxels import voxel_downsample


def make_cloud(n=400, seed=0):
    rng = np.random.default_rng(seed)
    return ObjectCloud(
        points=rng.normal(0, 0.1, (n, 3)).astype(np.float32),
        colors=rng.integers(0, 256, (n, 3)).astype(np.uint8),
        confidence=rng.uniform(0.1, 9, n).astype(np.float32),
        view_count=rng.integers(1, 9, n).astype(np.uint8),
        object_ids=(3,),
        masks=ViewMasks([], [], np.array([[3, 4]], np.int32)),
        frame_id="base",
        stamp_ns=5,
        scene_id="x",
    )


def test_voxel_downsample_averages_each_voxel():
    cloud, edge = make_cloud(), 0.05
    cells = {}
    for i, point in enumerate(cloud.points.astype(np.float64)):
        cells.setdefault(tuple(np.floor(point / edge)), []).append(i)
    thin = voxel_downsample(cloud, edge)
    assert 1 < len(thin) == len(cells) < len(cloud)
    for i, point in enumerate(thin.points.astype(np.float64)):
        members = cells[tuple(np.floor(point / edge))]
        np.testing.assert_allclose(point, cloud.points[members].mean(0, np.float64), atol=1e-6)
        mean = cloud.colors[members].mean(0)
        assert np.abs(thin.colors[i] - mean).max() <= 0.5
        assert thin.confidence[i] == pytest.approx(cloud.confidence[members].mean(), rel=1e-5)
        assert thin.view_count[i] == cloud.view_count[members].max()
    assert (thin.frame_id, thin.stamp_ns, thin.object_ids) == ("base", 5, (3,))


def test_voxel_downsample_zero_leaves_the_cloud_and_empty_stays_empty():
    cloud = make_cloud()
    assert voxel_downsample(cloud, 0) is cloud
    assert len(voxel_downsample(make_cloud(0), 0.1)) == 0


@pytest.mark.parametrize("size", [-0.1, float("nan"), float("inf")])
def test_voxel_downsample_refuses_impossible_voxels(size):
    with pytest.raises(PromptError, match="voxel_size must be 0 or more"):
        voxel_downsample(make_cloud(), size)


def test_voxel_downsample_refuses_voxels_too_small_for_the_cloud():
    with pytest.raises(PromptError, match="too small for a cloud that extends over"):
        voxel_downsample(make_cloud(), 1e-9)


def test_voxel_grid_neighbourhoods_equal_a_search_among_all_pairs():
    rng = np.random.default_rng(2)
    points = rng.uniform(-0.5, 0.5, (300, 3)).astype(np.float32)
    group = rng.integers(0, 3, 300).astype(np.int32)
    edge = 0.1
    cell = np.floor(points.astype(np.float64) / edge)
    near = (np.abs(cell[:, None] - cell[None]) <= 1).all(-1) & (group[:, None] == group[None])
    counts, clusters = VoxelGrid.of(points, edge, group).neighbourhoods()
    np.testing.assert_array_equal(counts, near.sum(1))
    reached = near.copy()
    for _ in range(300):
        further = (reached.astype(np.int32) @ near.astype(np.int32)) > 0
        if (further == reached).all():
            break
        reached = further
    np.testing.assert_array_equal(clusters[:, None] == clusters[None], reached)
    assert 3 < len(np.unique(clusters)) < 300


def test_voxel_grid_cells_are_in_order_and_groups_share_none():
    rng = np.random.default_rng(3)
    points = rng.uniform(-0.5, 0.5, (500, 3)).astype(np.float32)
    group, weight = rng.integers(0, 4, 500), rng.uniform(0.1, 1, 500)
    grid = VoxelGrid.of(points, 0.2, group)
    names = [(*c, g) for c, g in zip(np.floor(points.astype(float) / 0.2), group, strict=True)]
    cells = sorted(set(names))
    assert [cells[i] for i in grid.cell] == names
    for i, name in enumerate(cells):
        mine = [k for k, other in enumerate(names) if other == name]
        assert grid.counts[i] == len(mine)
        mean = np.average(points[mine], axis=0, weights=weight[mine])
        np.testing.assert_allclose(grid.mean(points, weight)[i], mean, atol=1e-6)
        assert grid.reduce(np.maximum, group)[i] == name[3]


def test_voxel_grid_takes_a_point_farther_than_64_bits_tell_apart():
    points = np.array([[0, 0, 0], [0.5, 0, 0], [3, 0, 0], [1e12, -1e12, 1e12]], np.float32)
    counts, clusters = VoxelGrid.of(points, 1.0).neighbourhoods()
    assert counts.tolist() == [2, 2, 1, 1]
    assert len(set(clusters.tolist())) == 3
