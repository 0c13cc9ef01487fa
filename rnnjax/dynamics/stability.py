"""What the Jacobian at a fixed point says: eigenvalues, eigenvectors, unstable directions."""

from typing import Any, NamedTuple

import jax
import numpy as np


class Stability(NamedTuple):
    """What `stability` returns, of P Jacobians `[P, N, N]`."""

    eigenvalues: Any  # complex [P, N], descending modulus
    right: Any  # complex [P, N, N]: right[p, i] is v_i of norm one, J v_i = lambda_i v_i
    left: Any  # complex [P, N, N]: left[p, i] is w_i, w_i^T J = lambda_i w_i^T, w_i^T v_i = 1
    num_unstable: Any  # [P], how many |lambda_i| >= 1
    stable: Any  # [P], whether there are none
    time_constants: Any  # [P, N], -1 / ln |lambda_i| in steps


def stability(jacobians: Any) -> Stability:
    """Return eigenvalues and eigenvectors of Jacobians of a map, and what follows from them.

    A small displacement along v_i is multiplied by lambda_i at each step, so it decays with the
    time constant -1 / ln |lambda_i|: infinite at |lambda_i| = 1, and negative where it grows, of
    the size in which it grows by a factor e. w_i^T (s - s*) is the component of a state along v_i.
    Where the matrix has no basis of eigenvectors, left vectors of a defective eigenvalue have norm
    one, since w_i^T v_i = 0.

    Args:
        jacobians: `[P, N, N]`, as of `diagnostics.jacobians`: columns are what is moved, rows
            where to.
    """
    import scipy.linalg  # a quarter of a second

    jacobians = np.asarray(jacobians)
    count, size = jacobians.shape[:2]
    kind = np.result_type(jacobians.dtype, np.complex64)
    values = np.zeros((count, size), kind)
    right, left = np.zeros((2, count, size, size), kind)
    for p, matrix in enumerate(jacobians):
        solved: Any = scipy.linalg.eig(matrix, left=True, right=True)
        found, w, v = solved
        order = np.lexsort((-found.imag, -found.real, -np.abs(found)))
        values[p], right[p], w = found[order], v.T[order], w.conj().T[order]
        overlap = np.sum(w * right[p], axis=-1, keepdims=True)
        defective = np.abs(overlap) <= np.finfo(kind).eps * size
        left[p] = w / np.where(defective, 1, overlap)
    modulus = np.abs(values)
    unstable = np.sum(modulus >= 1, axis=-1)
    with np.errstate(divide="ignore"):
        times = -1 / np.log(modulus)
    return Stability(values, right, left, unstable, unstable == 0, times)


def sort_by_stability(found: Any, unstable: np.ndarray, counts: np.ndarray) -> Any:
    """Return arrays `[P, ...]` with stable points first, and those found most often among them."""
    order = np.lexsort((-counts, unstable))
    return jax.tree.map(lambda a: a[order], found)
