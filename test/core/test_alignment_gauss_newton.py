"""The reduced solver against brute force: differences of the cost, and SciPy's least squares."""

import threading
from dataclasses import replace

import numpy as np
import pytest
from scipy.optimize import least_squares
from scipy.sparse import lil_matrix
from threadpoolctl import threadpool_info, threadpool_limits

from wildseg3d_ros.alignment.config import AlignmentConfig
from wildseg3d_ros.alignment.graph.initialization import Poses, initialize
from wildseg3d_ros.alignment.graph.sampling import build_graph
from wildseg3d_ros.alignment.solve.gauss_newton import robust_weights, solve
from wildseg3d_ros.alignment.solve.moments import Observations
from wildseg3d_ros.alignment.solve.normal_equations import System, generators
from wildseg3d_ros.core import devices
from wildseg3d_ros.core.geometry.transforms import rotation_from_vector
from wildseg3d_testing.pairs import (
    NETWORK_LIKE,
    complete_pairs,
    construct_views,
    predict_like_depth,
    predict_like_network,
    sequence_pairs,
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
    poses = initialize(graph)
    turns = np.stack([rotation_from_vector(v) for v in random.normal(0, 0.05, (5, 3))])
    poses = Poses(
        poses.scale * np.exp(random.normal(0, 0.05, 5)),
        turns @ poses.rotation,
        poses.translation + random.normal(0, 0.05, (5, 3)),
    )
    observations = Observations(graph)
    _, _, residual = observations.world_points(poses.matrices(), graph.weight)
    weight = graph.weight * robust_weights("huber", residual, 0.01)
    world, _, _ = observations.world_points(poses.matrices(), weight)
    system = System(observations, observations.moments(weight, world), poses)
    return observations.moved(poses.matrices()), weight, system


def brute_force_cost(graph, y, weight):
    """0.5 sum w |y - chi|^2 with chi the weighted mean, by loops over views and pixels."""
    total = 0.0
    for part in graph.of_view:
        for i in range(y.shape[2]):
            w, p = weight[part, i], y[part, :, i]
            if w.sum() > 0:
                total += 0.5 * (w * ((p - w @ p / w.sum()) ** 2).sum(1)).sum()
    return total


def robust_cost(loss, residual, scale):
    """rho(r) of a Huber loss with its knee at 1.5 scales, and of Geman-McClure's, 6 wide."""
    if loss == "huber":
        knee = 1.5 * scale
        return np.where(residual < knee, 0.5 * residual**2 / knee + 0.5 * knee, residual)
    width = 6.0 * scale
    square = (residual / width) ** 2
    return 0.5 * width**2 * square / (1.0 + square)


def dense(system):
    """(7E, 7E) the Gauss-Newton matrix."""
    pairs = len(system.pivot)
    units = np.eye(7 * pairs).reshape(pairs, 7, -1)
    return system.apply(units).reshape(7 * pairs, -1)


def test_system_gradient_and_curvature_are_those_of_the_brute_force_cost(graph, disturbed):
    y, weight, system = disturbed
    a = generators()
    centred = y - system.pivot[graph.edge][..., None]
    lifted = np.concatenate([centred, np.ones_like(y[:, :1])], axis=1)

    def cost(xi):
        move = np.einsum("ek,kcp->ecp", xi.reshape(-1, 7), a)
        return brute_force_cost(graph, y + move[graph.edge] @ lifted, weight)

    gradient = system.gradient.ravel()
    h = 1e-4
    steps = h * np.eye(len(gradient))
    # The cost is quadratic in the step: central differences are exact up to rounding.
    numeric = np.array([(cost(s) - cost(-s)) / (2 * h) for s in steps])
    np.testing.assert_allclose(gradient, numeric, atol=1e-6 * np.abs(numeric).max())
    random = np.random.default_rng(0)
    here = cost(np.zeros(len(gradient)))
    for _ in range(10):
        xi = random.normal(0, 1, (len(graph.edges), 7))
        curvature = cost(xi.ravel()) + cost(-xi.ravel()) - 2 * here
        image = system.apply(xi[..., None])[..., 0]
        assert (xi * image).sum() == pytest.approx(curvature, rel=1e-9)


def test_system_is_flat_along_global_motions(disturbed):
    _, _, system = disturbed
    turn = np.array([0.3, -0.2, 0.5])
    motion = np.zeros((len(system.pivot), 7))
    motion[:, :3] = turn
    motion[:, 3:6] = np.cross(turn, system.pivot)
    size = float(np.diagonal(dense(system)).mean())
    assert abs((system.gradient * motion).sum()) < 1e-9 * size
    shift = np.zeros_like(motion)
    shift[:, 3:6] = turn
    assert np.abs(system.apply(shift[..., None])).max() < 1e-9 * size


@pytest.mark.parametrize("kind", ["complete", "chain", "metric"])
def test_system_step_is_that_of_a_dense_solve(kind):
    """Against the constrained normal equations, formed and solved by NumPy; few iterations."""
    scene = construct_views(8, (24, 32), seed=4, sweep=4.0)
    pairs = sequence_pairs(8, 1) if kind == "chain" else complete_pairs(8, False)
    if kind == "metric":
        made = predict_like_depth(scene, pairs, 0.02, 0.02, 0.01, seed=4)
    else:
        made = predict_like_network(scene, pairs, NETWORK_LIKE, seed=4)
    graph = build_graph(made.predictions, made.views, AlignmentConfig(samples_per_view=60), None)
    poses, observations = initialize(graph), Observations(graph)
    world, _, residual = observations.world_points(poses.matrices(), graph.weight)
    weight = graph.weight * robust_weights("huber", residual, 0.003)
    system = System(observations, observations.moments(weight, world), poses)
    step, iterations = system.solve()

    hessian, gradient = dense(system), system.gradient.ravel()
    pivot, count = system.pivot, len(pairs)
    constraints = np.zeros((7, count, 7))
    for k in range(3):
        constraints[k, :, k] = 1.0
        constraints[k, :, 3:6] = np.cross(np.eye(3)[k], pivot)
        constraints[3 + k, :, 3 + k] = 1.0
    constraints[6, :, 6] = 1.0
    rows = constraints.reshape(7, -1)
    if kind == "metric":
        rows = np.concatenate([rows[:6], np.eye(7 * count)[6::7]])
    system_matrix = np.block([[hessian, rows.T], [rows, np.zeros((len(rows), len(rows)))]])
    right = np.concatenate([-gradient, np.zeros(len(rows))])
    exact = np.linalg.lstsq(system_matrix, right, rcond=1e-13)[0][: 7 * count].reshape(-1, 7)
    np.testing.assert_allclose(rows @ step.ravel(), 0, atol=1e-9)
    np.testing.assert_allclose(step, exact, atol=2e-3 * np.abs(exact).max())
    assert iterations <= 12


@pytest.mark.parametrize("fixed", [0, 1, 9])
@pytest.mark.parametrize("kind", ["network", "metric"])
def test_system_condition_is_that_of_dense_eigenvalues(kind, fixed):
    """Of the unknowns that take a step: not those of fixed pairs, nor known scales."""
    scene = construct_views(5, (24, 32), seed=4)
    pairs = complete_pairs(5, False)
    if kind == "metric":
        made = predict_like_depth(scene, pairs, 0.02, 0.02, 0.01, seed=4)
    else:
        made = predict_like_network(scene, pairs, NETWORK_LIKE, seed=4)
    graph = build_graph(made.predictions, made.views, AlignmentConfig(samples_per_view=60), None)
    poses, observations = initialize(graph), Observations(graph)
    world, _, _ = observations.world_points(poses.matrices(), graph.weight)
    is_fixed, moments = np.arange(10) < fixed, observations.moments(graph.weight, world)
    system = System(observations, moments, poses, fixed_pairs=is_fixed)
    moves = np.repeat(~is_fixed, 7) & ((np.arange(70) % 7 < 6) | (kind == "network"))
    values = np.linalg.eigvalsh(dense(system)[np.ix_(moves, moves)])
    # The motions of the whole world are free, and its scale where no pair says it.
    free = 0 if fixed else 6 + (kind == "network")
    exact = values[-1] / values[free]
    assert 0.7 * exact < system.condition() < 1.05 * exact


@pytest.mark.parametrize("loss", ["huber", "geman_mcclure"])
def test_robust_weights_are_the_derivative_of_the_cost_over_r(loss):
    r = np.linspace(0.001, 3.0, 400)
    r = r[np.abs(r - 0.5) > 1e-3]
    h = 1e-6
    slope = (robust_cost(loss, r + h, 0.5) - robust_cost(loss, r - h, 0.5)) / (2 * h)
    weight = robust_weights(loss, r, 0.5)
    scale = float(np.median(slope / (weight * r)))
    np.testing.assert_allclose(slope, scale * weight * r, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("loss", ["huber", "geman_mcclure"])
def test_solve_agrees_with_scipy_least_squares(graph, loss):
    solution = solve(
        graph,
        initialize(graph),
        AlignmentConfig(loss=loss, max_iterations=300, tolerance=1e-8),
    )
    assert solution.converged
    pairs = len(graph.edges)
    start_rotation = solution.poses.rotation
    weight = graph.weight
    view = graph.view
    used = weight > 0

    def similarities(parameters):
        xi = parameters[: 7 * pairs].reshape(pairs, 7)
        turns = np.stack([rotation_from_vector(v) for v in xi[:, :3]]) @ start_rotation
        log_scale = xi[:, 6] - xi[:, 6].mean()
        scale = solution.poses.scale * np.exp(log_scale)
        return scale, turns, solution.poses.translation + xi[:, 3:6]

    def residuals(parameters):
        scale, turns, shift = similarities(parameters)
        x = graph.x
        y = scale[graph.edge][:, None, None] * turns[graph.edge] @ x + shift[graph.edge][..., None]
        chi = parameters[7 * pairs :].reshape(solution.world.shape)
        r = np.linalg.norm(y - chi[view], axis=1)[used]
        cost = robust_cost(loss, r, solution.scale)
        return np.sqrt(weight[used] * cost)

    ours = np.concatenate([np.zeros(7 * pairs), solution.world.ravel()])
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


def test_blas_on_one_thread_leaves_the_number_of_threads_as_it_was():
    def threads():
        return [each["num_threads"] for each in threadpool_info() if each["user_api"] == "blas"]

    with threadpool_limits(2, user_api="blas"):
        before = threads()
        assert max(before) == 2
        with devices.blas_on_one_thread():
            assert set(threads()) == {1}
        assert threads() == before


def test_blas_on_one_thread_from_overlapping_threads():
    def threads():
        return [each["num_threads"] for each in threadpool_info() if each["user_api"] == "blas"]

    entered, leave = threading.Event(), threading.Event()

    def first():
        with devices.blas_on_one_thread():
            entered.set()
            leave.wait(10)

    before = threads()
    other = threading.Thread(target=first)
    other.start()
    assert entered.wait(10)
    assert set(threads()) == {1}
    with devices.blas_on_one_thread():
        leave.set()
        other.join()
        assert set(threads()) == {1}, "somebody still wants it"
    assert threads() == before
