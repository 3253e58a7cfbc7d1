"""An independent oracle: methods that use curvature, from their equations, in plain float64 NumPy.

As in `numpy_optimizers`, there is one function per optimizer that takes the start, a gradient function and a number of
steps, and returns the steps + 1 points. They see the parameters as one vector. `value` maps such a list of arrays to
the loss; the second derivatives of these problems are exact differences of the gradient along the imaginary axis.
"""

import numpy as np

TINY = 1e-30


def _flat(arrays):
    return np.concatenate([np.ravel(array) for array in arrays])


def _split(vector, arrays):
    found = []
    begin = 0
    for array in arrays:
        found.append(vector[begin : begin + array.size].reshape(array.shape))
        begin += array.size
    return found


def _product(gradient, x, direction, like):
    """H d, by a complex step: it has no cancellation, so the step may be as small as one likes."""
    return _flat(gradient(_split(x + 1j * TINY * direction, like))).imag / TINY


def newton_cg(params, gradient, steps, *, value, lr, forcing, max_iterations, max_search_steps):
    """Nocedal, Wright, "Numerical Optimization", 2006, algorithm 7.1 (Line Search Newton-CG).

    Inner loop: z = 0, r = g, d = -r; if d'Hd <= 0, return -g in its first round and z in later ones; else
    alpha = r'r / d'Hd, z += alpha d, r += alpha H d; return z if |r| <= min(forcing, sqrt|g|) |g|; d = -r + beta d.
    Then backtracking by halves from the step lr z, with c = 1e-4, and no step if none is good enough. A rise of f by 8
    units in its last place counts as none.
    """
    x = _flat(params)
    snapshots = [_split(x.copy(), params)]
    for _ in range(steps):
        g = _flat(gradient(_split(x, params)))
        length_of_g = np.sqrt(g @ g)
        bound = min(forcing, np.sqrt(length_of_g)) * length_of_g
        z = np.zeros(x.size)
        r = g.copy()
        d = -r
        for j in range(max_iterations):
            image = _product(gradient, x, d, params)
            curvature = d @ image
            if curvature <= 0:
                if j == 0:
                    z = -g
                break
            alpha = (r @ r) / curvature
            z = z + alpha * d
            r_new = r + alpha * image
            beta = (r_new @ r_new) / (r @ r)
            r = r_new
            if np.sqrt(r @ r) <= bound:
                break
            d = -r + beta * d
        p = lr * z
        f = value(_split(x, params))
        a = 1.0
        for _ in range(max_search_steps):
            if value(_split(x + a * p, params)) <= f + 1e-4 * a * (g @ p) + 8 * np.finfo(float).eps * abs(f):
                x = x + a * p
                break
            a = a / 2
        snapshots.append(_split(x.copy(), params))
    return snapshots


def gauss_newton(params, gradient, steps, *, residual, lr, damping, factor):
    """Marquardt, "An Algorithm for Least-Squares Estimation of Nonlinear Parameters", 1963, without his scaling.

    p minimizes |J p + r|^2 + damping |p|^2, here by the singular value decomposition of J. x moves to x + lr p, and
    damping is divided by the factor, unless |r|^2 rises there (by more than 8 units in its last place); then x stays,
    and damping is multiplied.
    """
    x = _flat(params)
    snapshots = [_split(x.copy(), params)]
    eps = np.finfo(float).eps
    for _ in range(steps):
        r = residual(_split(x, params))
        columns = []
        for k in range(x.size):
            direction = np.zeros(x.size)
            direction[k] = 1.0
            columns.append(np.asarray(residual(_split(x + 1j * TINY * direction, params))).imag / TINY)
        u, singular, vt = np.linalg.svd(np.stack(columns, axis=1), full_matrices=False)
        p = -vt.T @ (singular / (singular**2 + damping) * (u.T @ r))
        r_new = residual(_split(x + lr * p, params))
        if r_new @ r_new <= (r @ r) * (1 + 8 * eps):
            x = x + lr * p
            damping = damping / factor
        else:
            damping = damping * factor
        damping = min(max(damping, eps), 1 / eps)
        snapshots.append(_split(x.copy(), params))
    return snapshots


def ssbroyden(params, gradient, steps, *, search, lr, formula):
    """Urban, Stefanou, Pons, "Unveiling the optimization process of physics informed neural networks", 2025, with the
    second choice of theta, as in the authors' modified_optimize.py; or SSBFGS, or BFGS.

    `search(x, p, g)` returns a length along p that meets the strong Wolfe conditions; it is no part of the method. A
    step in the last digits of x does not change the matrix.
    """
    x = _flat(params)
    n = x.size
    h_matrix = np.eye(n)
    fresh = True
    g = _flat(gradient(_split(x, params)))
    snapshots = [_split(x.copy(), params)]
    for _ in range(steps):
        p = -h_matrix @ g
        alpha = lr * search(_split(x, params), _split(lr * p, params), _split(g, params))
        x_new = x + alpha * p
        g_new = _flat(gradient(_split(x_new, params)))
        s = x_new - x
        y = g_new - g
        seen = np.sqrt(s @ s) > 8 * np.finfo(float).eps * np.sqrt(x_new @ x_new)
        if seen and s @ y > 0 and y @ h_matrix @ y > 0 and -alpha * (s @ g) > 0:
            rho = 1 / (y @ s)
            hy = h_matrix @ y
            yhy = y @ hy
            h = rho * yhy
            b = -alpha * rho * (s @ g)
            a = max(b * h - 1, 0.0)
            theta = 0.0
            tau = 1.0
            if formula == "ssbfgs":
                tau = min(1.0, 1 / b)
            if formula == "ssbroyden":
                c = np.sqrt(a / (1 + a))
                rm = min(1.0, h * (1 - c))
                theta_minus = (rm - 1) / a if a > 0 else -np.inf
                theta_plus = 1 / rm
                theta = max(theta_minus, min(theta_plus, (1 - b) / b))
                sigma = 1 + a * theta
                power = abs(sigma) ** (1 / (1 - n))
                rk = min(1.0, 1 / b)
                tau = min(rk * power, sigma) if theta <= 0 else rk * min(power, 1 / theta)
            if fresh and formula != "bfgs":
                tau = h / (1 + a * theta)
            phi = (1 - theta) / (1 + a * theta)
            w = rho * s - hy / yhy
            bracket = h_matrix - np.outer(hy, hy) / yhy + phi * yhy * np.outer(w, w)
            h_matrix = bracket / tau + rho * np.outer(s, s)
            fresh = False
        x = x_new
        g = g_new
        snapshots.append(_split(x.copy(), params))
    return snapshots
