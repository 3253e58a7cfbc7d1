"""An independent oracle: methods that project gradients to a low rank, from their equations, in plain float64 NumPy.

As in `numpy_optimizers`, there is one function per optimizer, with explicit loops, that takes the start, a gradient
function and a number of steps, and returns the steps + 1 points. The authors write W as (outputs, inputs); so do these
functions, which turn a kernel (inputs, outputs) around first and back at the end.
"""

import math

import numpy as np


def _copies(arrays):
    return [np.array(array, dtype=np.float64) for array in arrays]


def galore(params, gradient, steps, *, lr, b1, b2, eps, weight_decay, rank, gap, scale):
    """Zhao et al., "GaLore", 2024, algorithm 2, with the side that the authors' code (galore_torch, "std") projects.

    With W of m rows and n columns: if m >= n, R = G V_r (m x r), else R = U_r' G (r x n). The singular vectors are
    those of the gradient of steps 0, gap, 2 gap, ...; the moments stay as they are then. The decay is that of AdamW,
    of the point before the step (the authors' code: after it). Each singular vector is turned so that its entry of
    largest modulus is positive. Vectors are updated by AdamW without a scale.
    """
    x = _copies(params)
    m = [None] * len(x)
    v = [None] * len(x)
    bases = [None] * len(x)
    snapshots = [_copies(x)]
    for t in range(1, steps + 1):
        g = _copies(gradient(_copies(x)))
        for i in range(len(x)):
            is_matrix = x[i].ndim == 2
            weight_gradient = g[i].T if is_matrix else g[i]
            right = is_matrix and weight_gradient.shape[0] >= weight_gradient.shape[1]
            if is_matrix and (t - 1) % gap == 0:
                r = rank if rank is not None else math.ceil(min(weight_gradient.shape) / 4)
                u, _, vt = np.linalg.svd(weight_gradient)
                basis = np.array(vt[:r].T if right else u[:, :r])
                for k in range(r):
                    if basis[np.argmax(np.abs(basis[:, k])), k] < 0:
                        basis[:, k] = -basis[:, k]
                bases[i] = basis
            if not is_matrix:
                low = weight_gradient
            elif right:
                low = weight_gradient @ bases[i]
            else:
                low = bases[i].T @ weight_gradient
            if t == 1:
                m[i] = np.zeros(low.shape)
                v[i] = np.zeros(low.shape)
            m[i] = b1 * m[i] + (1 - b1) * low
            v[i] = b2 * v[i] + (1 - b2) * low**2
            direction = (m[i] / (1 - b1**t)) / (np.sqrt(v[i] / (1 - b2**t)) + eps)
            if is_matrix:
                direction = scale * (direction @ bases[i].T if right else bases[i] @ direction)
                direction = direction.T
            x[i] = x[i] - lr * (direction + weight_decay * x[i])
        snapshots.append(_copies(x))
    return snapshots


def apollo(params, gradient, steps, *, lr, b1, b2, eps, weight_decay, rank, gap, scale, limit, tensor_wise, projection):
    """Zhu et al., "APOLLO: SGD-like Memory, AdamW-level Performance", 2024, algorithm 1, as in the authors' code.

    With W of m rows and n columns and a random P: if m >= n, R = G P' (m x r) and the channels are the rows, else
    R = P G (r x n) and the channels are the columns. `projection(leaf, number, shape)` gives P of shape (r, shorter
    side) for the leaf's place and the number of projections before. The update of a matrix grows by `limit` at most.
    Vectors are updated by AdamW, eps being added to the root before the correction, as everywhere here.
    """
    x = _copies(params)
    m = [None] * len(x)
    v = [None] * len(x)
    last = [None] * len(x)
    snapshots = [_copies(x)]
    for t in range(1, steps + 1):
        g = _copies(gradient(_copies(x)))
        for i in range(len(x)):
            is_matrix = x[i].ndim == 2
            weight_gradient = g[i].T if is_matrix else g[i]
            rows = is_matrix and weight_gradient.shape[0] >= weight_gradient.shape[1]
            low = weight_gradient
            if is_matrix:
                shorter = min(weight_gradient.shape)
                r = rank if rank is not None else math.ceil(shorter / 4)
                p = projection(i, (t - 1) // gap, (r, shorter))
                low = weight_gradient @ p.T if rows else p @ weight_gradient
            if t == 1:
                m[i] = np.zeros(low.shape)
                v[i] = np.zeros(low.shape)
            m[i] = b1 * m[i] + (1 - b1) * low
            v[i] = b2 * v[i] + (1 - b2) * low**2
            direction = m[i] / (np.sqrt(v[i]) + eps)
            if is_matrix:
                update = np.zeros(weight_gradient.shape)
                for j in range(max(weight_gradient.shape)):
                    if tensor_wise:
                        s = np.linalg.norm(direction) / (np.linalg.norm(low) + 1e-8)
                    elif rows:
                        s = np.linalg.norm(direction[j]) / (np.linalg.norm(low[j]) + 1e-8)
                    else:
                        s = np.linalg.norm(direction[:, j]) / (np.linalg.norm(low[:, j]) + 1e-8)
                    if rows:
                        update[j] = s * weight_gradient[j] * math.sqrt(scale)
                    else:
                        update[:, j] = s * weight_gradient[:, j] * math.sqrt(scale)
                size = np.linalg.norm(update)
                if last[i] is not None and size > limit * last[i]:
                    update = update * (limit * last[i] / size)
                    size = limit * last[i]
                last[i] = size
                direction = update.T
            rate = lr * math.sqrt(1 - b2**t) / (1 - b1**t)
            x[i] = x[i] - rate * direction - lr * weight_decay * x[i]
        snapshots.append(_copies(x))
    return snapshots
