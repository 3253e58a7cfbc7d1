"""An independent oracle: optimizers of matrices from their published equations, in plain float64 NumPy.

As in `numpy_optimizers`, there is one function per optimizer that takes the start, a gradient function and a number of
steps, and returns the steps + 1 points. Matrices are (inputs, outputs), the transpose of PyTorch's. A Newton-Schulz
iteration is not done on the matrix: the polynomials are applied to its singular values.
"""

import math

import numpy as np

JORDAN = [(3.4445, -4.7750, 2.0315)] * 5
POLYNOMIALS = {
    "jordan": JORDAN,
    "classic": [(2.0, -1.5, 0.5)] * 12,
    "polar_express": [
        (8.156554524902461, -22.48329292557795, 15.878769915207462),
        (4.042929935166739, -2.808917465908714, 0.5000178451051316),
        (3.8916678022926607, -2.772484153217685, 0.5060648178503393),
        (3.285753657755655, -2.3681294933425376, 0.46449024233003106),
        (2.3465413258596377, -1.7097828382687081, 0.42323551169305323),
    ],
}


def _copies(arrays):
    return [np.array(array, dtype=np.float64) for array in arrays]


def _zeros(arrays):
    return [np.zeros(np.shape(array), dtype=np.float64) for array in arrays]


def polar(matrix, eps, rows=JORDAN, margin=1.0):
    """The polynomials of the rows, one after the other, of the singular values divided by their norm."""
    left, values, right = np.linalg.svd(matrix, full_matrices=False)
    values = values / (margin * math.sqrt(float(np.sum(values**2))) + eps)
    for a, b, c in rows:
        values = a * values + b * values**3 + c * values**5
    return left @ np.diag(values) @ right


class _AdamW:
    """AdamW for one vector: x <- x - lr (mhat / (sqrt(vhat) + eps) + decay x)."""

    def __init__(self, shape):
        self.m, self.v, self.t = np.zeros(shape), np.zeros(shape), 0

    def step(self, x, g, lr, b1, b2, eps, decay):
        self.t += 1
        self.m = b1 * self.m + (1 - b1) * g
        self.v = b2 * self.v + (1 - b2) * g**2
        direction = (self.m / (1 - b1**self.t)) / (np.sqrt(self.v / (1 - b2**self.t)) + eps)
        return x - lr * (direction + decay * x)


def _walk(params, gradient, steps, matrix_step, vector_step):
    """Take steps: `matrix_step(i, x, g, t)` for each matrix and `vector_step(adamw, x, g)` for each vector."""
    x = _copies(params)
    adams = [_AdamW(a.shape) for a in x]
    snapshots = [_copies(x)]
    for t in range(1, steps + 1):
        g = _copies(gradient(_copies(x)))
        x = [
            matrix_step(i, x[i], g[i], t) if x[i].ndim >= 2 else vector_step(adams[i], x[i], g[i])
            for i in range(len(x))
        ]
        snapshots.append(_copies(x))
    return snapshots


def mars_shampoo(
    params, gradient, steps, *, lr, b1, gamma, eps, weight_decay, adam_lr, adam_b1, adam_b2, adam_eps, adam_decay
):
    """Yuan, Liu, Wu, Zhou, Gu, "MARS: Unleashing the Power of Variance Reduction for Training Large Models", 2024,
    in the form MARS-Shampoo of the authors' code, with the approximate correction and g_0 = 0.
    """
    m, previous = _zeros(params), _zeros(params)

    def matrix_step(i, x, g, t):
        c = g + gamma * b1 / (1 - b1) * (g - previous[i])
        length = float(np.linalg.norm(c))
        c = c / length if length > 1 else c
        previous[i] = g
        m[i] = b1 * m[i] + (1 - b1) * c
        inputs, outputs = x.shape
        update = math.sqrt(max(1.0, outputs / inputs)) * polar(m[i] / (1 - b1), eps)
        return x * (1 - lr * weight_decay) - lr * update

    return _walk(
        params,
        gradient,
        steps,
        matrix_step,
        lambda adam, x, g: adam.step(x, g, adam_lr, adam_b1, adam_b2, adam_eps, adam_decay),
    )


def muon_by_values(params, gradient, steps, *, lr, momentum, weight_decay, eps, name, ns_steps):
    """Jordan, "Muon", 2024, with other polynomials; AdamW of vectors at the defaults of the code."""
    m = _zeros(params)
    margin = 1.02 if name == "polar_express" else 1.0

    def matrix_step(i, x, g, t):
        m[i] = momentum * m[i] + (1 - momentum) * g
        ahead = (1 - momentum) * g + momentum * m[i]
        inputs, outputs = x.shape
        update = math.sqrt(max(1.0, outputs / inputs)) * polar(ahead, eps, POLYNOMIALS[name][:ns_steps], margin)
        return x * (1 - lr * weight_decay) - lr * update

    return _walk(
        params,
        gradient,
        steps,
        matrix_step,
        lambda adam, x, g: adam.step(x, g, 0.015 * lr, 0.9, 0.95, 1e-10, weight_decay),
    )
