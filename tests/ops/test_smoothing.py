from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse
import scipy.sparse.linalg

from tfllv.ops import smoothing


def solve_directly(data: np.ndarray, weight_x: np.ndarray, weight_y: np.ndarray) -> np.ndarray:
    """The same system by sparse LU in float64, assembled from difference matrices."""
    height, width = data.shape

    def difference(size: int) -> scipy.sparse.spmatrix:
        return scipy.sparse.diags_array([-np.ones(size - 1), np.ones(size - 1)], offsets=[0, 1], shape=(size - 1, size))

    system = scipy.sparse.eye_array(data.size)
    if width > 1:
        along_x = scipy.sparse.kron(scipy.sparse.eye_array(height), difference(width))
        system = system + along_x.T @ scipy.sparse.diags_array(weight_x.ravel().astype(np.float64)) @ along_x
    if height > 1:
        along_y = scipy.sparse.kron(difference(height), scipy.sparse.eye_array(width))
        system = system + along_y.T @ scipy.sparse.diags_array(weight_y.ravel().astype(np.float64)) @ along_y
    return scipy.sparse.linalg.spsolve(system.tocsc(), data.ravel().astype(np.float64)).reshape(data.shape)


@pytest.mark.parametrize("shape", [(1, 1), (1, 2), (2, 1), (2, 3), (1, 31), (31, 1), (17, 33), (48, 64)])
def test_the_solution_is_that_of_a_direct_solver(shape, rng):
    height, width = shape
    data = rng.random(shape).astype(np.float32)
    # Six orders of magnitude between neighbouring weights: what an edge-aware weight really looks like.
    weight_x = (10 ** rng.uniform(-3, 3, (height, width - 1))).astype(np.float32)
    weight_y = (10 ** rng.uniform(-3, 3, (height - 1, width))).astype(np.float32)
    expected = solve_directly(data, weight_x, weight_y)
    actual = smoothing.solve_least_squares(data, weight_x, weight_y)
    assert np.sqrt(np.mean((actual - expected) ** 2)) < 2e-4
    closer = smoothing.solve_least_squares(data, weight_x, weight_y, tolerance=2e-5)
    np.testing.assert_allclose(closer, expected, atol=5e-4)


def test_a_smaller_tolerance_gives_a_smaller_error(rng):
    data = rng.random((40, 50)).astype(np.float32)
    weights = np.full((40, 49), 300, np.float32), np.full((39, 50), 300, np.float32)
    expected = solve_directly(data, *weights)
    loose, tight = (smoothing.solve_least_squares(data, *weights, tolerance=value) for value in (1e-2, 1e-5))
    assert np.abs(tight - expected).max() < 3e-5 < np.abs(loose - expected).max()


def test_zero_weights_give_the_data_and_huge_ones_its_mean(rng):
    data = rng.random((20, 30)).astype(np.float32)
    zero = np.zeros((20, 29), np.float32), np.zeros((19, 30), np.float32)
    np.testing.assert_allclose(smoothing.solve_least_squares(data, *zero), data, atol=1e-6)
    huge = zero[0] + np.float32(1e5), zero[1] + np.float32(1e5)
    np.testing.assert_allclose(smoothing.solve_least_squares(data, *huge), data.mean(), atol=2e-3)


def test_the_mean_is_kept_and_a_flat_channel_stays(rng):
    weights = rng.random((20, 29), np.float32) * 100, rng.random((19, 30), np.float32) * 100
    data = rng.random((20, 30)).astype(np.float32)
    assert smoothing.solve_least_squares(data, *weights).mean() == pytest.approx(data.mean(), abs=1e-4)
    flat = np.full((20, 30), 0.3, np.float32)
    np.testing.assert_allclose(smoothing.solve_least_squares(flat, *weights), flat, atol=1e-4)


def test_weights_of_a_wrong_shape_are_named():
    data = np.zeros((4, 5), np.float32)
    with pytest.raises(ValueError, match=r"`weight_x` must be \(4, 4\)"):
        smoothing.solve_least_squares(data, np.zeros((4, 5), np.float32), np.zeros((3, 5), np.float32))


def test_negative_weights_are_refused():
    data = np.zeros((4, 5), np.float32)
    with pytest.raises(ValueError, match=">= 0"):
        smoothing.solve_least_squares(data, np.full((4, 4), -2, np.float32), np.full((3, 5), -2, np.float32))
