"""The reduced solver against brute force: differences of the cost, and SciPy's least squares."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.optimize import least_squares
from scipy.sparse import lil_matrix

from wildseg3d_ros.alignment.graph import build_graph
from wildseg3d_ros.alignment.placement import Poses, place
from wildseg3d_ros.alignment.solver import (
    Reduction,
    generators,
    moments,
    normal_equations,
    robust_cost,
    robust_weights,
    solve,
)
from wildseg3d_ros.config import AlignmentConfig
from wildseg3d_ros.geometry.transforms import rotation_from_vector
from wildseg3d_ros.testing.pairs import (
    NETWORK_LIKE,
    complete_pairs,
    construct_views,
    predict_like_network,
)

pytestmark = pytest.mark.filterwarnings("error")


@pytest.fixture(scope="module")
def graph():
    scene = construct_views(3, (24, 32), seed=1)
    errors = replace(NETWORK_LIKE, warp=0.03)
    scene = predict_like_network(scene, complete_pairs(3)[:5], errors, seed=1)
    return build_graph(scene.predictions, scene.views, AlignmentConfig(samples_per_view=40), None)


@pytest.fixture(scope="module")
def disturbed(graph):
    """Poses away from any optimum, and robust weights that are not uniform."""
    random = np.random.default_rng(2)
    poses = place(graph)
    turns = np.stack([rotation_from_vector(v) for v in random.normal(0, 0.05, (5, 3))])
    poses = Poses(
        poses.scale * torch.from_numpy(np.exp(random.normal(0, 0.05, 5))),
        torch.from_numpy(turns) @ poses.rotation,
        poses.translation + torch.from_numpy(random.normal(0, 0.05, (5, 3))),
    )
    y = poses.observed(graph)
    reduction = Reduction(graph)
    world, _ = reduction.mean(y, graph.weight)
    weight = graph.weight * robust_weights("huber", reduction.residual(y, world), 0.01)
    world, total = reduction.mean(y, weight)
    return y, weight, world, total, reduction.view


def brute_force_cost(graph, y, weight):
    """0.5 sum w |y - chi|^2 with chi the weighted mean, by loops over views and pixels."""
    total = 0.0
    y, weight = y.numpy(), weight.numpy()
    for part in graph.of_view:
        for i in range(y.shape[2]):
            w, p = weight[part, i], y[part, :, i]
            if w.sum() > 0:
                total += 0.5 * (w * ((p - w @ p / w.sum()) ** 2).sum(1)).sum()
    return total


def test_gradient_and_curvature_are_those_of_the_brute_force_cost(graph, disturbed):
    y, weight, world, total, view = disturbed
    first, second, pivot = moments(graph, y, weight, world, total, view)
    gradient, hessian = normal_equations(first, second)
    a = generators(first)
    lifted = torch.cat([y - pivot[graph.edge][..., None], torch.ones_like(y[:, :1])], 1)

    def cost(xi):
        move = torch.einsum("ek,kcp->ecp", torch.from_numpy(xi.reshape(-1, 7)), a)
        return brute_force_cost(graph, y + move[graph.edge] @ lifted, weight)

    count = len(gradient)
    h = 1e-4
    steps = h * np.eye(count)
    # The cost is quadratic in the step: central differences are exact up to rounding.
    numeric = np.array([(cost(s) - cost(-s)) / (2 * h) for s in steps])
    np.testing.assert_allclose(gradient.numpy(), numeric, atol=1e-6 * np.abs(numeric).max())
    random = np.random.default_rng(0)
    here = cost(np.zeros(count))
    for _ in range(10):
        xi = random.normal(0, 1, count)
        curvature = cost(xi) + cost(-xi) - 2 * here
        assert xi @ hessian.numpy() @ xi == pytest.approx(curvature, rel=1e-9)


def test_the_cost_does_not_change_under_global_motions(graph, disturbed):
    y, weight, world, total, view = disturbed
    first, second, pivot = moments(graph, y, weight, world, total, view)
    gradient, hessian = normal_equations(first, second)
    turn = torch.tensor([0.3, -0.2, 0.5], dtype=torch.float64)
    motion = torch.zeros(len(pivot), 7, dtype=torch.float64)
    motion[:, :3] = turn
    motion[:, 3:6] = torch.linalg.cross(turn.expand_as(pivot), pivot)
    size = float(hessian.diagonal().mean())
    assert abs(float(gradient @ motion.reshape(-1))) < 1e-9 * size
    shift = torch.zeros_like(motion)
    shift[:, 3:6] = turn
    assert float((hessian @ shift.reshape(-1)).abs().max()) < 1e-9 * size


@pytest.mark.parametrize("loss", ["l2", "huber", "geman_mcclure"])
def test_weights_are_the_derivative_of_the_cost_over_r(loss):
    r = torch.linspace(0.001, 3.0, 400, dtype=torch.float64)
    r = r[(r - 0.5).abs() > 1e-3]
    h = 1e-6
    slope = (robust_cost(loss, r + h, 0.5) - robust_cost(loss, r - h, 0.5)) / (2 * h)
    weight = robust_weights(loss, r, 0.5)
    scale = float((slope / (weight * r)).median())
    np.testing.assert_allclose(slope, scale * weight * r, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("loss", ["l2", "huber", "geman_mcclure"])
def test_solution_is_that_of_scipy_least_squares(graph, loss):
    solution = solve(graph, place(graph), loss, max_iterations=300, tolerance=1e-8)
    assert solution.converged
    pairs = len(graph.edges)
    start_rotation = solution.poses.rotation.numpy()
    weight = graph.weight.numpy()
    view = graph.view
    used = weight > 0

    def similarities(parameters):
        xi = parameters[: 7 * pairs].reshape(pairs, 7)
        turns = np.stack([rotation_from_vector(v) for v in xi[:, :3]]) @ start_rotation
        log_scale = xi[:, 6] - xi[:, 6].mean()
        scale = solution.poses.scale.numpy() * np.exp(log_scale)
        return scale, turns, solution.poses.translation.numpy() + xi[:, 3:6]

    def residuals(parameters):
        scale, turns, shift = similarities(parameters)
        x = graph.x.numpy()
        y = scale[graph.edge][:, None, None] * turns[graph.edge] @ x + shift[graph.edge][..., None]
        chi = parameters[7 * pairs :].reshape(solution.world.shape)
        r = np.linalg.norm(y - chi[view], axis=1)[used]
        cost = robust_cost(loss, torch.from_numpy(r), solution.scale).numpy()
        return np.sqrt(weight[used] * cost)

    ours = np.concatenate([np.zeros(7 * pairs), solution.world.numpy().ravel()])
    here = 0.5 * (residuals(ours) ** 2).sum()
    # Started away from our answer, along every pose.
    away = ours.copy()
    away[: 7 * pairs] += np.random.default_rng(3).normal(0, 3e-3, 7 * pairs)
    observation, sample = np.nonzero(used)
    depends = lil_matrix((len(sample), len(ours)), dtype=np.int8)
    depends[:, : 7 * pairs] = 1
    for k in range(3):
        point = (3 * view[observation] + k) * used.shape[1] + sample
        depends[np.arange(len(sample)), 7 * pairs + point] = 1
    best = least_squares(residuals, away, jac_sparsity=depends, x_scale="jac", max_nfev=60)
    assert 0.5 * (residuals(away) ** 2).sum() > here * (1 + 1e-3)
    assert best.cost < here * (1 + 1e-3)
    assert here < best.cost * (1 + 1e-4)
