"""Edge-aware smoothing by weighted least squares: one sparse linear system, solved by multigrid."""

from __future__ import annotations

import numpy as np
from scipy.linalg import lapack

# A line relaxation of the smoother takes this share of its correction; below 1 it is stable, see `_Level.relax`.
_DAMPING = 0.8
# Constant-by-blocks interpolation makes the coarse operator too stiff; on an even grid by a factor of two.
_COARSE_WEIGHT = 0.5
_MAX_ITERATIONS = 100


def solve_least_squares(
    data: np.ndarray, weight_x: np.ndarray, weight_y: np.ndarray, *, tolerance: float = 2e-4
) -> np.ndarray:
    """Minimises sum (t - data)^2 + sum weight_x (dt/dx)^2 + sum weight_y (dt/dy)^2 over t, all on one grid.

    The system (I + Dx' Wx Dx + Dy' Wy Dy) t = data is that of Eq. 19 of LIME (Guo, Li and Ling 2017,
    https://doi.org/10.1109/TIP.2016.2639450) and of weighted-least-squares smoothing at large. It is solved by
    conjugate gradients, preconditioned with one multigrid cycle: blocks of 2 x 2 pixels, and relaxation of whole rows
    and columns (each a tridiagonal solve), which the strong and uneven weights ask for. No flux crosses the border.

    Args:
      data: [H, W] float32.
      weight_x: [H, W - 1] float32, finite and >= 0, between horizontal neighbours.
      weight_y: [H - 1, W] float32, finite and >= 0, between vertical neighbours.
      tolerance: largest root-mean-square error, in units of `data`, by an estimate on the safe side.

    Returns:
      [H, W] float32, within the range of `data` up to the tolerance.

    Raises:
      ValueError: if the shapes do not fit.
    """
    height, width = data.shape
    if weight_x.shape != (height, width - 1) or weight_y.shape != (height - 1, width):
        raise ValueError(
            f"`weight_x` must be {(height, width - 1)} and `weight_y` {(height - 1, width)} for `data` of {data.shape}."
            f" Received: weight_x {weight_x.shape}, weight_y {weight_y.shape}."
        )
    levels = [_Level(np.ones(data.shape, np.float32), weight_x, weight_y)]
    while levels[-1].mass.size > 1:
        levels.append(levels[-1].coarsen())
    result = data.astype(np.float32)
    residual = data - levels[0].multiply(result)
    correction = _cycle(levels, residual)
    direction = correction.copy()
    # residual . correction is near the squared error in the norm of the system, which bounds the plain one. It falls
    # short of it by up to a half where neighbouring weights differ by decades, hence half the tolerance.
    energy = float(np.vdot(residual, correction))
    for _ in range(_MAX_ITERATIONS):
        if energy <= data.size * (0.5 * tolerance) ** 2:
            break
        product = levels[0].multiply(direction)
        step = np.float32(energy / float(np.vdot(direction, product)))
        result += step * direction
        residual -= step * product
        correction = _cycle(levels, residual)
        energy, last = float(np.vdot(residual, correction)), energy
        direction *= np.float32(energy / last)
        direction += correction
    return result


class _Level:
    """The system on one grid: a mass on every pixel and a weight on every pair of neighbours."""

    def __init__(self, mass: np.ndarray, weight_x: np.ndarray, weight_y: np.ndarray):
        self.mass, self.weight_x, self.weight_y = mass, weight_x, weight_y
        diagonal = mass.copy()
        diagonal[:, :-1] += weight_x
        diagonal[:, 1:] += weight_x
        diagonal[:-1] += weight_y
        diagonal[1:] += weight_y
        self.diagonal = diagonal
        self._rows = _factor(diagonal, weight_x)
        self._columns = _factor(diagonal.T, weight_y.T)

    def multiply(self, values: np.ndarray) -> np.ndarray:
        """Returns the system's matrix times `values`."""
        result = self.diagonal * values
        result[:, :-1] -= self.weight_x * values[:, 1:]
        result[:, 1:] -= self.weight_x * values[:, :-1]
        result[:-1] -= self.weight_y * values[1:]
        result[1:] -= self.weight_y * values[:-1]
        return result

    def relax(self, residual: np.ndarray, *, by_rows: bool) -> np.ndarray:
        """Returns the correction that solves every row (or column) exactly with its neighbours held, damped.

        Undamped it could reach twice the right correction, where neighbouring lines pull against each other.
        """
        if by_rows:
            return np.float32(_DAMPING) * _solve(self._rows, residual)
        return np.float32(_DAMPING) * _solve(self._columns, np.ascontiguousarray(residual.T)).T

    def coarsen(self) -> _Level:
        """Returns the system on blocks of 2 x 2 pixels."""
        weight_x = _sum_pairs(self.weight_x[:, 1::2], 0) * np.float32(_COARSE_WEIGHT)
        weight_y = _sum_pairs(self.weight_y[1::2], 1) * np.float32(_COARSE_WEIGHT)
        return _Level(_sum_blocks(self.mass), weight_x, weight_y)


def _cycle(levels: list[_Level], residual: np.ndarray) -> np.ndarray:
    """One symmetric V-cycle: the approximate solution for `residual`, from zero."""
    level = levels[0]
    if len(levels) == 1:
        return residual / level.diagonal
    result = level.relax(residual, by_rows=True)
    result = result + level.relax(residual - level.multiply(result), by_rows=False)
    coarse = _cycle(levels[1:], _sum_blocks(residual - level.multiply(result)))
    result += coarse.repeat(2, axis=0).repeat(2, axis=1)[: result.shape[0], : result.shape[1]]
    result += level.relax(residual - level.multiply(result), by_rows=False)
    result += level.relax(residual - level.multiply(result), by_rows=True)
    return result


def _factor(diagonal: np.ndarray, weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Factors the tridiagonal systems of all rows in one call: chained, with a zero weight between two rows."""
    beside = np.zeros(diagonal.shape, np.float32)
    beside[:, :-1] = -weight
    if diagonal.size == 1:
        return diagonal.ravel(), beside.ravel()
    pivots, factors, info = lapack.spttrf(np.ascontiguousarray(diagonal).ravel(), beside.ravel()[:-1])
    if info:
        raise ValueError("`weight_x` and `weight_y` must be finite and >= 0. Received: weights that are not.")
    return pivots, factors


def _solve(factored: tuple[np.ndarray, np.ndarray], right: np.ndarray) -> np.ndarray:
    """Solves what `_factor` factored, for a right side of [rows, columns]."""
    if right.size == 1:
        return right / factored[0].reshape(right.shape)
    return lapack.spttrs(*factored, right.ravel())[0].reshape(right.shape)


def _sum_pairs(values: np.ndarray, axis: int) -> np.ndarray:
    """Adds neighbours 0 and 1, 2 and 3, ... along an axis; an odd last one stays alone."""
    pairs = values if axis == 0 else values.T
    result = pairs[::2].copy()
    result[: pairs.shape[0] // 2] += pairs[1::2]
    return result if axis == 0 else np.ascontiguousarray(result.T)


def _sum_blocks(values: np.ndarray) -> np.ndarray:
    return _sum_pairs(_sum_pairs(values, 0), 1)
