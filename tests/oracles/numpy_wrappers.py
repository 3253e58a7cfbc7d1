"""An independent oracle: the wrappers from their published equations, in plain float64 NumPy.

As in `numpy_optimizers.py` the code is imperative on purpose, and no two wrappers share more than the bases: functions
that return the moves of a list of arrays for a list of gradients, and remember what they need. Every wrapper takes the
start, a gradient function, a number of steps and a base. It returns the steps + 1 points, of which the first is the
start, or the pair of those and of the points to evaluate at.
"""

import math

import numpy as np


def _copies(arrays):
    return [np.array(array, dtype=np.float64) for array in arrays]


def _length(arrays):
    return math.sqrt(sum(float(value) ** 2 for array in arrays for value in np.ravel(array)))


def heavy_ball(*, lr, momentum, weight_decay=0.0):
    """PyTorch's form: v = momentum v + g; the move is -lr v."""
    velocity = None

    def moves(x, g):
        nonlocal velocity
        g = [a + weight_decay * p for a, p in zip(g, x, strict=True)]
        velocity = _copies(g) if velocity is None else [momentum * v + a for v, a in zip(velocity, g, strict=True)]
        return [-lr * v for v in velocity]

    return moves


def adam(*, lr, b1=0.9, b2=0.999, eps=1e-8):
    """Adam with both corrections."""
    m, v, t = None, None, 0

    def moves(x, g):
        nonlocal m, v, t
        t += 1
        m = [np.zeros_like(a) for a in g] if m is None else m
        v = [np.zeros_like(a) for a in g] if v is None else v
        m = [b1 * a + (1 - b1) * b for a, b in zip(m, g, strict=True)]
        v = [b2 * a + (1 - b2) * b**2 for a, b in zip(v, g, strict=True)]
        return [-lr * (a / (1 - b1**t)) / (np.sqrt(b / (1 - b2**t)) + eps) for a, b in zip(m, v, strict=True)]

    return moves


def sam(params, gradient, steps, base, *, rho):
    """Foret, Kleiner, Mobahi, Neyshabur 2021, algorithm 1: e = rho g / ||g|| over all parameters."""
    x, snapshots = _copies(params), [_copies(params)]
    for _ in range(steps):
        g = gradient(_copies(x))
        length = _length(g)
        above = [p + rho * a / length for p, a in zip(x, g, strict=True)]
        x = [p + u for p, u in zip(x, base(x, gradient(above)), strict=True)]
        snapshots.append(_copies(x))
    return snapshots


def asam(params, gradient, steps, base, *, rho, eta, least_axes):
    """Kwon, Kim, Park, Choi 2021, algorithm 1: T = |w| + eta for weights and 1 for biases, e = rho T^2 g / ||T g||."""
    x, snapshots = _copies(params), [_copies(params)]
    for _ in range(steps):
        g = gradient(_copies(x))
        t = [np.abs(p) + eta if p.ndim >= least_axes else np.ones_like(p) for p in x]
        length = _length([a * b for a, b in zip(t, g, strict=True)])
        above = [p + rho * a**2 * b / length for p, a, b in zip(x, t, g, strict=True)]
        x = [p + u for p, u in zip(x, base(x, gradient(above)), strict=True)]
        snapshots.append(_copies(x))
    return snapshots


def lookahead(params, gradient, steps, base, *, k, alpha):
    """Zhang, Lucas, Hinton, Ba 2019, algorithm 1; the base keeps its state. The averages are the slow weights."""
    slow, snapshots, averages = _copies(params), [_copies(params)], [_copies(params)]
    fast = _copies(slow)
    inner = 0
    for _ in range(steps):
        fast = [p + u for p, u in zip(fast, base(fast, gradient(_copies(fast))), strict=True)]
        inner += 1
        if inner == k:
            slow = [s + alpha * (f - s) for s, f in zip(slow, fast, strict=True)]
            fast = _copies(slow)
            inner = 0
        snapshots.append(_copies(fast))
        averages.append(_copies(slow))
    return snapshots, averages


def ema(params, gradient, steps, base, *, decay, start_step, blend, debias):
    """The average of the points, as a weighted sum over all of them: no recursion."""
    x, snapshots = _copies(params), [_copies(params)]
    for _ in range(steps):
        x = [p + u for p, u in zip(x, base(x, gradient(_copies(x))), strict=True)]
        snapshots.append(_copies(x))
    averages = [_copies(params)]
    for last in range(1, steps + 1):
        begin = min(start_step, last)  # the average is the point itself until then
        weights = [(1 - decay) * decay ** (last - t) for t in range(begin + 1, last + 1)]
        seen = list(range(begin + 1, last + 1))
        if begin > 0 or not debias:
            weights, seen = [decay ** (last - begin), *weights], [begin, *seen]
        found = []
        for i in range(len(x)):
            mean = sum(w * snapshots[t][i] for w, t in zip(weights, seen, strict=True)) / sum(weights)
            found.append((1 - blend) * snapshots[last][i] + blend * mean)
        averages.append(found)
    return snapshots, averages


def ema_nesterov(params, gradient, steps, base, *, beta, decay, start_step):
    """modded-nanogpt, track 3, records 39 to 46: the point is moved by beta times the average move, then by the base.

    The points are those where the gradient is taken; the second sequence is that of the points behind them.
    """
    x = _copies(params)
    drift = [np.zeros_like(p) for p in x]
    snapshots, averages = [_copies(x)], [_copies(x)]
    for t in range(steps):
        before = _copies(x)
        factor = beta if t >= start_step and t > 0 else 0.0
        ahead = [p + factor * d for p, d in zip(x, drift, strict=True)]
        x = [p + u for p, u in zip(ahead, base(ahead, gradient(_copies(ahead))), strict=True)]
        drift = [decay * d + (1 - decay) * (new - old) for d, new, old in zip(drift, x, before, strict=True)]
        following = beta if t + 1 >= start_step else 0.0
        snapshots.append([p + following * d for p, d in zip(x, drift, strict=True)])
        averages.append(_copies(x))
    return snapshots, averages


def schedule_free(params, gradient, steps, base, *, momentum, rates, r, power):
    """Defazio et al. 2024, equations 3 to 5, with x kept explicitly; `rates(t)` are the weights' learning rates."""
    x, z = _copies(params), _copies(params)
    snapshots, averages = [_copies(params)], [_copies(params)]
    total, largest = 0.0, 0.0
    for t in range(1, steps + 1):
        y = [(1 - momentum) * b + momentum * a for a, b in zip(x, z, strict=True)]
        z = [b + u for b, u in zip(z, base(y, gradient(_copies(y))), strict=True)]
        largest = max(largest, rates(t - 1))
        weight = t**r * largest**power
        total += weight
        c = weight / total
        x = [(1 - c) * a + c * b for a, b in zip(x, z, strict=True)]
        snapshots.append([(1 - momentum) * b + momentum * a for a, b in zip(x, z, strict=True)])
        averages.append(_copies(x))
    return snapshots, averages


def cautious(params, gradient, steps, base, *, floor):
    """Liang, Chen, Liu, Liu 2024, algorithm 1, with the scale of the authors' repository: 1 / max(mean mask, floor)."""
    x, snapshots = _copies(params), [_copies(params)]
    for _ in range(steps):
        g = gradient(_copies(x))
        for p, u, a in zip(x, base(x, g), g, strict=True):
            kept = 0
            for place in np.ndindex(p.shape):
                if -u[place] * a[place] > 0:
                    kept += 1
            scale = 1 / max(kept / p.size, floor)
            for place in np.ndindex(p.shape):
                if -u[place] * a[place] > 0:
                    p[place] += scale * u[place]
        snapshots.append(_copies(x))
    return snapshots


def cautious_decay(params, gradient, steps, base, *, lr, weight_decay):
    """arXiv 2510.12402: x = x - lr (u + wd 1[u x >= 0] x), where -lr u is the move of the base."""
    x, snapshots = _copies(params), [_copies(params)]
    for _ in range(steps):
        for p, move in zip(x, base(x, gradient(_copies(x))), strict=True):
            for place in np.ndindex(p.shape):
                u = -move[place] / lr
                decay = weight_decay * p[place] if u * p[place] >= 0 else 0.0
                p[place] = p[place] - lr * (u + decay)
        snapshots.append(_copies(x))
    return snapshots


def orthogonalized(params, gradient, steps, base, *, lr, ns_steps, eps):
    """Jordan 2024 on kernels (inputs, outputs): the quintic acts on the singular values, which an SVD provides."""
    x, snapshots = _copies(params), [_copies(params)]
    for _ in range(steps):
        for p, u in zip(x, base(x, gradient(_copies(x))), strict=True):
            if p.ndim < 2:
                p += u
                continue
            left, values, right = np.linalg.svd(u.reshape(-1, u.shape[-1]), full_matrices=False)
            s = values / (math.sqrt(float(np.sum(values**2))) + eps)
            for _ in range(ns_steps):
                s = 3.4445 * s - 4.7750 * s**3 + 2.0315 * s**5
            inputs, outputs = p.size // p.shape[-1], p.shape[-1]
            p += lr * math.sqrt(max(1.0, outputs / inputs)) * ((left * s) @ right).reshape(p.shape)
        snapshots.append(_copies(x))
    return snapshots


def centralize(params, gradient, steps, base, *, least_axes):
    """Yong, Huang, Hua, Zhang 2020, equation 1: the weights of one output (the last axis) have gradients of mean 0."""
    x, snapshots = _copies(params), [_copies(params)]
    for _ in range(steps):
        g = _copies(gradient(_copies(x)))
        for a in g:
            if a.ndim >= least_axes:
                for output in range(a.shape[-1]):
                    a[..., output] = a[..., output] - np.mean(a[..., output])
        x = [p + u for p, u in zip(x, base(x, g), strict=True)]
        snapshots.append(_copies(x))
    return snapshots


def grokfast(params, gradient, steps, base, *, decay, factor):
    """Lee, Kang, Kim, Lee 2024, algorithm 2; the average begins at the first gradient, as in their code."""
    x, snapshots, h = _copies(params), [_copies(params)], None
    for _ in range(steps):
        g = gradient(_copies(x))
        h = _copies(g) if h is None else [decay * a + (1 - decay) * b for a, b in zip(h, g, strict=True)]
        x = [p + u for p, u in zip(x, base(x, [a + factor * b for a, b in zip(g, h, strict=True)]), strict=True)]
        snapshots.append(_copies(x))
    return snapshots


def adaptive_clip(params, gradient, steps, base, *, clipping, eps):
    """Brock, De, Smith, Simonyan 2021, equation 3: units are the outputs (the last axis); a vector is one unit."""
    x, snapshots = _copies(params), [_copies(params)]
    for _ in range(steps):
        g = _copies(gradient(_copies(x)))
        for a, w in zip(g, x, strict=True):
            units = [(a[..., j], w[..., j]) for j in range(a.shape[-1])] if a.ndim > 1 else [(a, w)]
            for slope, weights in units:
                largest = clipping * max(_length([weights]), eps)
                length = _length([slope])
                if length > largest:
                    slope *= largest / length
        x = [p + u for p, u in zip(x, base(x, g), strict=True)]
        snapshots.append(_copies(x))
    return snapshots


def every_k(params, gradient, steps, base, *, k):
    """The mean of k gradients makes a step; the gradients in between are at the same point."""
    x, snapshots, seen = _copies(params), [_copies(params)], []
    for _ in range(steps):
        seen.append(gradient(_copies(x)))
        if len(seen) == k:
            mean = [sum(parts) / k for parts in zip(*seen, strict=True)]
            x = [p + u for p, u in zip(x, base(x, mean), strict=True)]
            seen = []
        snapshots.append(_copies(x))
    return snapshots


def partitioned(params, gradient, steps, base, *, rest):
    """Matrices to the base, all else to the other."""
    x, snapshots = _copies(params), [_copies(params)]
    for _ in range(steps):
        g = gradient(_copies(x))
        for optimizer, on in ((base, True), (rest, False)):
            own = [i for i in range(len(x)) if (x[i].ndim > 1) is on]
            if own:
                for i, u in zip(own, optimizer([x[i] for i in own], [g[i] for i in own]), strict=True):
                    x[i] = x[i] + u
        snapshots.append(_copies(x))
    return snapshots


def polyak(params, gradient, steps, base, *, value, f_min, max_learning_rate, eps):
    """Loizou et al. 2021, equation 4, with the move of the base in place of the negative gradient."""
    x, snapshots = _copies(params), [_copies(params)]
    for _ in range(steps):
        u = base(x, gradient(_copies(x)))
        rate = min((value(_copies(x)) - f_min) / (_length(u) ** 2 + eps), max_learning_rate)
        x = [p + rate * a for p, a in zip(x, u, strict=True)]
        snapshots.append(_copies(x))
    return snapshots


def backtracking(params, gradient, steps, base, *, value, slope_rtol, decrease, increase, largest, most):
    """Armijo 1966; the first trial is the last rate times `increase`, at most `largest`."""
    x, snapshots, rate = _copies(params), [_copies(params)], 1.0
    for _ in range(steps):
        g = gradient(_copies(x))
        u = base(x, g)
        slope = sum(float(np.sum(a * b)) for a, b in zip(u, g, strict=True))
        before = value(_copies(x))
        rate = min(increase * rate, largest)
        for _ in range(most):
            if value([p + rate * a for p, a in zip(x, u, strict=True)]) <= before + rate * slope_rtol * slope:
                break
            rate *= decrease
        x = [p + rate * a for p, a in zip(x, u, strict=True)]
        snapshots.append(_copies(x))
    return snapshots
