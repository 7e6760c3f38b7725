"""Given poses, relative poses, scales and pairs as factors of one graph."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from wildseg3d_ros.alignment.priors.pose_graph import (
    Cameras,
    Posed,
    PoseGraph,
    Related,
    Scaled,
    _moved,
)
from wildseg3d_ros.core.geometry.transforms import invert, make_transform, rotation_from_vector

COUNT = 5
UNITS = 0.7
"""Graph units per metre."""
SIGMA = np.array([0.004, 0.004])


def poses(rng, count=COUNT):
    return np.stack(
        [
            make_transform(rotation_from_vector(rng.normal(0, 0.5, 3)), rng.normal(0, 0.5, 3))
            for _ in range(count)
        ]
    )


def off(pose, rng, metres=SIGMA[0], radians=SIGMA[1]):
    turn = rotation_from_vector(rng.normal(0, radians, 3))
    return make_transform(turn @ pose[:3, :3], pose[:3, 3] + rng.normal(0, metres, 3))


def made(seed, **changes):
    """A graph of true cameras with errors of the size that is said, and where to start."""
    rng = np.random.default_rng(seed)
    truth = poses(rng)
    edges = np.array([(a, b) for a in range(COUNT) for b in range(a + 1, COUNT)])
    a_from_b = np.stack([off(invert(truth[a]) @ truth[b], rng) for a, b in edges])
    a_from_b[:, :3, 3] *= UNITS
    sigma = np.tile(SIGMA, (len(edges), 1))
    known = np.array([(0, 4), (1, 3)])
    graph = PoseGraph(
        COUNT,
        Related(edges, a_from_b, sigma, in_units=True),
        Posed(
            np.arange(COUNT), np.stack([off(p, rng) for p in truth]), np.tile(SIGMA, (COUNT, 1))
        ),
        Related(
            known,
            np.stack([off(invert(truth[a]) @ truth[b], rng) for a, b in known]),
            np.tile(SIGMA, (2, 1)),
        ),
        Scaled(np.log(UNITS) + rng.normal(0, 0.015, 3), np.full(3, 0.015)),
    )
    start = np.stack([off(p, rng, 0.02, 0.02) for p in truth])
    cameras = Cameras(start[:, :3, :3], start[:, :3, 3], float(np.log(UNITS) + 0.05))
    return replace(graph, **changes), cameras, truth


def test_linearise_gives_the_derivatives_of_the_residuals():
    graph, start, _ = made(0)
    cameras = graph.judge(start).judged.state
    unknowns = 6 * COUNT + 1
    for k, factors in enumerate(graph._linearise(cameras)[:4]):
        whole = np.zeros((*factors.residual.shape, unknowns))
        for f, columns in enumerate(factors.columns):
            whole[f][:, columns] = factors.jacobian[f]
        for unknown, step in enumerate(1e-6 * np.eye(unknowns)):
            ahead, behind = (
                graph._linearise(_moved(cameras, sign * step))[k].residual for sign in (1, -1)
            )
            slope = (ahead - behind) / 2e-6
            # Rotations' own curvature is left out: right to the residuals' size.
            np.testing.assert_allclose(whole[..., unknown], slope, atol=0.01 / SIGMA[0])


@pytest.mark.parametrize("is_metric", [False, True])
def test_judge_finds_cameras_and_scale(is_metric):
    for seed in range(4):
        graph, start, truth = made(seed, is_metric=is_metric)
        if is_metric:
            start = start._replace(log_units=float(np.log(UNITS)))
        verdicts = graph.judge(start)
        assert all(f.used.all() for f in verdicts.judged.findings)
        assert verdicts.widened == 1.0
        state = verdicts.judged.state
        np.testing.assert_allclose(state.centre, truth[:, :3, 3], atol=0.01)
        np.testing.assert_allclose(state.rotation, truth[:, :3, :3], atol=0.01)
        assert np.exp(state.log_units) == pytest.approx(UNITS, rel=1e-7 if is_metric else 0.02)


@pytest.mark.parametrize("seed", range(3))
def test_judge_names_every_kind_that_is_wrong(seed):
    graph, start, _ = made(seed)
    rng = np.random.default_rng(seed)
    given, related = graph.posed.world_from_cam.copy(), graph.related.a_from_b.copy()
    given[2] = off(given[2], rng, 0.2, 0.2)
    related[1] = off(related[1], rng, 0.2, 0.2)
    log_units = graph.scaled.log_units.copy()
    log_units[0] += np.log(1000.0)
    measured = graph.pairs.a_from_b.copy()
    measured[7] = off(measured[7], rng, 0.2, 0.2)
    verdicts = replace(
        graph,
        posed=replace(graph.posed, world_from_cam=given),
        related=replace(graph.related, a_from_b=related),
        scaled=replace(graph.scaled, log_units=log_units),
        pairs=replace(graph.pairs, a_from_b=measured),
        pairs_may_be_wrong=True,
    ).judge(start)
    wrong = [np.flatnonzero(~f.used).tolist() for f in verdicts.judged.findings[:4]]
    assert wrong == [[2], [1], [0], [7]]


def test_judge_widens_deviations_that_are_too_small():
    graph, start, _ = made(0)
    small = replace(graph.posed, sigma=graph.posed.sigma / 10.0)
    pairs = replace(graph.pairs, sigma=graph.pairs.sigma / 10.0)
    related = replace(graph.related, sigma=graph.related.sigma / 10.0)
    verdicts = replace(graph, posed=small, pairs=pairs, related=related).judge(start)
    assert 5.0 < verdicts.widened < 40.0
    assert verdicts.posed.used.all()


def test_judge_keeps_neither_of_two_poses_that_contradict_each_other():
    graph, start, _ = made(1)
    given = graph.posed.world_from_cam[:2].copy()
    given[0, 0, 3] += 0.3
    verdicts = replace(graph, posed=Posed(np.arange(2), given, graph.posed.sigma[:2])).judge(start)
    assert not verdicts.posed.used.any()
    assert verdicts.related.used.all()
