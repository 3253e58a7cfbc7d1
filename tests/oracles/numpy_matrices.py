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


def moonlight(
    params,
    gradient,
    steps,
    *,
    lr,
    momentum,
    weight_decay,
    nesterov,
    eps,
    adam_lr,
    adam_b1,
    adam_b2,
    adam_eps,
    name="jordan",
):
    """Liu, Su, Yao, et al., "Muon is Scalable for LLM Training", 2025 (Moonlight, examples/toy_train.py).

    The velocity is undamped: v <- momentum v + g. The polar factor is multiplied by 0.2 sqrt(max(inputs, outputs)).
    The decay is by the plain rate. (The code adds AdamW's eps to the uncorrected root.)
    """
    velocity = _zeros(params)

    def matrix_step(i, x, g, t):
        velocity[i] = momentum * velocity[i] + g
        ahead = g + momentum * velocity[i] if nesterov else velocity[i]
        update = 0.2 * math.sqrt(max(x.shape)) * polar(ahead, eps, POLYNOMIALS[name])
        return x * (1 - lr * weight_decay) - lr * update

    return _walk(
        params,
        gradient,
        steps,
        matrix_step,
        lambda adam, x, g: adam.step(x, g, adam_lr, adam_b1, adam_b2, adam_eps, weight_decay),
    )


def normuon(
    params,
    gradient,
    steps,
    *,
    lr,
    momentum,
    b2,
    weight_decay,
    nesterov,
    eps,
    norm_eps,
    adam_lr,
    adam_b1,
    adam_b2,
    adam_eps,
    name="jordan",
):
    """Li, Liu, Chen, Zhao, "NorMuon: Making Muon more efficient and scalable", 2025, as in zichongli5/NorMuon.

    One second moment per neuron, which is a column of (inputs, outputs): the average of the mean of squares over the
    inputs, without bias correction. The update is then brought back to the norm that it had.
    """
    m = _zeros(params)
    s = [np.zeros(a.shape[-1]) for a in params]

    def matrix_step(i, x, g, t):
        inputs, outputs = x.shape
        m[i] = momentum * m[i] + (1 - momentum) * g
        update = polar((1 - momentum) * g + momentum * m[i] if nesterov else m[i], eps, POLYNOMIALS[name])
        before = float(np.linalg.norm(update))
        for k in range(outputs):
            s[i][k] = b2 * s[i][k] + (1 - b2) * sum(float(update[j, k]) ** 2 for j in range(inputs)) / inputs
        for k in range(outputs):
            update[:, k] = update[:, k] / (math.sqrt(s[i][k]) + norm_eps)
        update = update * before / (float(np.linalg.norm(update)) + norm_eps)
        update = update * math.sqrt(max(1.0, outputs / inputs))
        return x * (1 - lr * weight_decay) - lr * update

    return _walk(
        params,
        gradient,
        steps,
        matrix_step,
        lambda adam, x, g: adam.step(x, g, adam_lr, adam_b1, adam_b2, adam_eps, weight_decay),
    )


def adamuon(
    params,
    gradient,
    steps,
    *,
    lr,
    momentum,
    weight_decay,
    nesterov,
    eps,
    moment_eps,
    adam_lr,
    adam_b1,
    adam_b2,
    adam_eps,
    name="jordan",
):
    """Si, Zhang, Shen, "AdaMuon: Adaptive Muon Optimizer", 2025, as in Chongjie-Si/AdaMuon.

    The sign of the momentum is orthogonalized; a second moment per element with the same decay, without bias
    correction; the update gets the root mean square 0.2.
    """
    m = _zeros(params)
    v = _zeros(params)

    def matrix_step(i, x, g, t):
        m[i] = momentum * m[i] + (1 - momentum) * g
        ahead = (1 - momentum) * g + momentum * m[i] if nesterov else m[i]
        update = polar(np.sign(ahead), eps, POLYNOMIALS[name])
        v[i] = momentum * v[i] + (1 - momentum) * update**2
        update = update / (np.sqrt(v[i]) + moment_eps)
        update = update * 0.2 * math.sqrt(x.size) / (float(np.linalg.norm(update)) + moment_eps)
        return x * (1 - lr * weight_decay) - lr * update

    return _walk(
        params,
        gradient,
        steps,
        matrix_step,
        lambda adam, x, g: adam.step(x, g, adam_lr, adam_b1, adam_b2, adam_eps, weight_decay),
    )


def scion(params, gradient, steps, *, lr, momentum, radius, norms, constrained, eps, vector_eps, name="jordan"):
    """Pethick, Xie, Antonakopoulos, Zhu, Silveti-Falls, Cevher, "Training Deep Learning Models with Norm-Constrained
    LMOs", 2025, algorithms 1 and 2, as in LIONS-EPFL/scion; the paper's alpha is 1 - momentum.

    `norms` holds a norm for every array.
    """
    x = _copies(params)
    d = _zeros(x)
    snapshots = [_copies(x)]
    for _ in range(steps):
        g = _copies(gradient(_copies(x)))
        for i in range(len(x)):
            d[i] = momentum * d[i] + (1 - momentum) * g[i]
            if norms[i] == "spectral":
                inputs, outputs = x[i].shape
                step = math.sqrt(outputs / inputs) * polar(d[i], eps, POLYNOMIALS[name])
            elif norms[i] == "sign":
                step = np.sign(d[i]) / (x[i].shape[0] if x[i].ndim == 2 else 1)
            else:
                step = d[i] / (math.sqrt(float(np.sum(d[i] ** 2)) / d[i].size) + vector_eps)
            if constrained:
                x[i] = (1 - lr) * x[i]
            x[i] = x[i] - lr * radius * step
        snapshots.append(_copies(x))
    return snapshots


def hyperball(
    params, gradient, steps, *, method, lr, eps, ns_eps, b1, b2, moment_eps, adam_lr, adam, nesterov=True, name="jordan"
):
    """Wen et al., "Hyperball", 2026 (MuonH and AdamH of modded-nanogpt, track 3): x keeps its norm.

    x - lr |x| u / |u| is brought back to the norm of x; u is the direction of Muon or of Adam. Vectors by AdamW with
    the numbers `adam` (b1, b2, eps, decay). No weight decay of matrices.
    """
    m = _zeros(params)
    v = _zeros(params)

    def matrix_step(i, x, g, t):
        m[i] = b1 * m[i] + (1 - b1) * g
        if method == "muon":
            u = polar((1 - b1) * g + b1 * m[i] if nesterov else m[i], ns_eps, POLYNOMIALS[name])
            u = u * math.sqrt(max(1.0, x.shape[1] / x.shape[0]))  # matters only where |u| < eps
        else:
            v[i] = b2 * v[i] + (1 - b2) * g**2
            u = (m[i] / (1 - b1**t)) / (np.sqrt(v[i] / (1 - b2**t)) + moment_eps)
        radius = math.sqrt(sum(float(value) ** 2 for value in np.ravel(x)))
        moved = x - lr * radius * u / max(float(np.linalg.norm(u)), eps)
        return moved * radius / max(float(np.linalg.norm(moved)), eps)

    return _walk(params, gradient, steps, matrix_step, lambda one, x, g: one.step(x, g, adam_lr, *adam))


def psgd_kron(
    params, gradient, steps, *, lr, b1, precondition_lr, initial_scale, clip, weight_decay, interval, probes, damping
):
    """Li, "Preconditioned Stochastic Gradient Descent", 2015, with Kronecker factors as in kron_torch
    (evanatyourservice/kron_torch).

    P = (Ql' Ql) (Qr' Qr); the factors of a matrix are upper triangular, that of a vector is a diagonal.
    `probes(t, shapes)` returns one array V for every leaf, `interval(t)` the steps that lie between two updates of P.
    Norms of the divisor: for triangles a lower bound of the spectral norm by one power step from the longest column,
    for diagonals the largest element.
    """
    m = _zeros(params)
    factors = []
    for a in params:
        scale = initial_scale ** (1 / max(a.ndim, 1))
        factors.append([scale * (np.eye(n) if a.ndim == 2 else np.ones(n)) for n in a.shape])
    x = _copies(params)
    snapshots = [_copies(x)]

    def lower_bound(a):
        columns = np.sum(a * a, axis=0)
        column = a[:, int(np.argmax(columns))]
        row = column @ a
        row = row / np.linalg.norm(row)
        return float(np.linalg.norm(row @ a.T))

    since = 0
    for t in range(1, steps + 1):
        g = _copies(gradient(_copies(x)))
        since += 1
        renew = since >= interval(t)
        since = 0 if renew else since
        drawn = probes(t, [a.shape for a in x])
        for i in range(len(x)):
            m[i] = b1 * m[i] + (1 - b1) * g[i]
            mhat = m[i] / (1 - b1**t)
            if renew:
                probe = drawn[i]
                noisy = mhat + damping * float(np.mean(np.abs(mhat))) * probe
                if x[i].ndim == 2:
                    left, right = factors[i]
                    a = left @ noisy @ right.T
                    b = np.linalg.inv(left).T @ probe @ np.linalg.inv(right)
                    for side, q in enumerate((left, right)):
                        first = a @ a.T if side == 0 else a.T @ a
                        second = b @ b.T if side == 0 else b.T @ b
                        change = precondition_lr * np.triu(first - second) / lower_bound(first + second)
                        factors[i][side] = q - change @ q
                else:
                    q = factors[i][0]
                    a, b = q * noisy, probe / q
                    factors[i][0] = q - precondition_lr * (a**2 - b**2) * q / float(np.max(a**2 + b**2))
            if x[i].ndim == 2:
                left, right = factors[i]
                step = left.T @ left @ mhat @ right.T @ right
            else:
                step = factors[i][0] ** 2 * mhat
            rms = math.sqrt(float(np.sum(step**2)) / step.size)
            step = step * min(1.0, clip / (rms + 1e-12))
            decay = weight_decay if x[i].ndim >= 2 else 0.0
            x[i] = x[i] - lr * (step + decay * x[i])
        snapshots.append(_copies(x))
    return snapshots


def dion(params, gradient, steps, *, lr, momentum, weight_decay, eps, first, adam_lr, adam_b1, adam_b2, adam_eps):
    """Ahn, Xu, Abreu, Langford, "Dion: Distributed Orthonormalized Updates", 2025, on one device, as in
    microsoft/dion (dion_simple.py), with the matrices of PyTorch, whose rows are the outputs.

    `first(shapes)` returns for every array the first Q, of shape (inputs, rank), or None.
    """
    bases = first([a.shape for a in params])
    buffers = [np.zeros(a.shape[::-1]) for a in params]

    def matrix_step(i, x, g, t):
        weight = x.T  # (outputs, inputs)
        outputs, inputs = weight.shape
        buffers[i] = buffers[i] + g.T
        p, _ = np.linalg.qr(buffers[i] @ bases[i])
        r = buffers[i].T @ p
        buffers[i] = buffers[i] - (1 - momentum) * p @ r.T
        columns = []
        for k in range(r.shape[1]):
            columns.append(r[:, k] / (float(np.linalg.norm(r[:, k])) + eps))
        bases[i] = np.stack(columns, axis=1)
        weight = weight * (1 - lr * weight_decay) - lr * math.sqrt(outputs / inputs) * p @ bases[i].T
        return weight.T

    return _walk(
        params,
        gradient,
        steps,
        matrix_step,
        lambda adam, x, g: adam.step(x, g, adam_lr, adam_b1, adam_b2, adam_eps, weight_decay),
    )


def soap_muon(
    params,
    gradient,
    steps,
    *,
    lr,
    momentum,
    b2,
    shampoo_beta,
    weight_decay,
    eps,
    moment_eps,
    adam_lr,
    adam_b1,
    adam_b2,
    adam_eps,
    name="classic",
):
    """Vyas et al., "SOAP-Muon", 2026, as in modded-nanogpt's track 3: Muon's polar factor of SOAP's direction.

    The first step is Muon's. The second moment is that of the momentum in the eigenbasis, without bias correction; the
    bases are renewed in every step after the update, by one orthogonal iteration on sorted columns.
    """
    m, v = _zeros(params), _zeros(params)
    left = [np.zeros((a.shape[0], a.shape[0])) if a.ndim == 2 else None for a in params]
    right = [np.zeros((a.shape[1], a.shape[1])) if a.ndim == 2 else None for a in params]
    bases = [None] * len(m)
    rows = POLYNOMIALS[name]

    def matrix_step(i, x, g, t):
        inputs, outputs = x.shape
        m[i] = momentum * m[i] + (1 - momentum) * g
        ahead = (1 - momentum) * g + momentum * m[i]
        direction = ahead
        if t > 1:
            ql, qr = bases[i]
            rotated = ql.T @ ahead @ qr
            v[i] = b2 * v[i] + (1 - b2) * rotated**2
            direction = ql @ (rotated / (np.sqrt(v[i]) + moment_eps)) @ qr.T
            direction = direction * float(np.linalg.norm(ahead)) / float(np.linalg.norm(direction))
        update = math.sqrt(max(1.0, outputs / inputs)) * polar(direction, eps, rows)
        left[i] = shampoo_beta * left[i] + (1 - shampoo_beta) * g @ g.T
        right[i] = shampoo_beta * right[i] + (1 - shampoo_beta) * g.T @ g
        if t == 1:
            bases[i] = [np.linalg.eigh(left[i])[1][:, ::-1], np.linalg.eigh(right[i])[1][:, ::-1]]
        else:
            for side, matrix in enumerate((left[i], right[i])):
                q = bases[i][side]
                sizes = [float(q[:, k] @ matrix @ q[:, k]) for k in range(len(q))]
                order = sorted(range(len(q)), key=lambda k: -sizes[k])
                v[i] = np.take(v[i], order, axis=side)
                bases[i][side] = np.linalg.qr(matrix @ q[:, order])[0]
        return x * (1 - lr * weight_decay) - lr * update

    return _walk(
        params,
        gradient,
        steps,
        matrix_step,
        lambda adam, x, g: adam.step(x, g, adam_lr, adam_b1, adam_b2, adam_eps, weight_decay),
    )


def kl_soap(
    params,
    gradient,
    steps,
    *,
    lr,
    b1,
    b2,
    shampoo_beta,
    eps,
    weight_decay,
    frequency,
    cap,
    first_value,
    adam_lr,
    adam_b1,
    adam_b2,
    adam_eps,
):
    """Lin, Lowe, Dangel, et al., "Understanding and improving Shampoo and SOAP via Kullback-Leibler minimization",
    2025, in the form of modded-nanogpt's track 3.

    The first gradient makes the bases and moves no matrix. m is kept in the basis and turned with it, v is not; there
    is no bias correction. Each statistic is whitened by the other side's basis and eigenvalues.
    """
    m, v = _zeros(params), _zeros(params)
    state = [None] * len(m)

    def inverse(values):
        return np.array([min(1 / math.sqrt(value), cap) ** 2 if value > 0 else cap**2 for value in values])

    def matrix_step(i, x, g, t):
        rows, columns = x.shape
        if t == 1:
            gl, gr = g @ g.T / columns, g.T @ g / rows
            ql, qr = np.linalg.eigh(gl)[1][:, ::-1], np.linalg.eigh(gr)[1][:, ::-1]
            state[i] = [gl, gr, ql, qr, np.full(rows, first_value), np.full(columns, first_value)]
            return x
        gl, gr, ql, qr, values_l, values_r = state[i]
        p = ql.T @ g @ qr
        m[i] = b1 * m[i] + (1 - b1) * p
        v[i] = b2 * v[i] + (1 - b2) * p**2
        update = ql @ (m[i] / (np.sqrt(v[i]) + eps)) @ qr.T
        inverse_l, inverse_r = inverse(values_l), inverse(values_r)
        new_l = g @ qr @ np.diag(inverse_r) @ qr.T @ g.T / columns
        new_r = g.T @ ql @ np.diag(inverse_l) @ ql.T @ g / rows
        gl = shampoo_beta * gl + (1 - shampoo_beta) * new_l
        gr = shampoo_beta * gr + (1 - shampoo_beta) * new_r
        fresh_l = [sum(float(p[j, k]) ** 2 * inverse_r[k] for k in range(columns)) / columns for j in range(rows)]
        fresh_r = [sum(float(p[j, k]) ** 2 * inverse_l[j] for j in range(rows)) / rows for k in range(columns)]
        values_l = shampoo_beta * values_l + (1 - shampoo_beta) * np.array(fresh_l)
        values_r = shampoo_beta * values_r + (1 - shampoo_beta) * np.array(fresh_r)
        if (t - 1) % frequency == 0:
            plain = ql @ m[i] @ qr.T
            ql, qr = np.linalg.qr(gl @ ql)[0], np.linalg.qr(gr @ qr)[0]
            m[i] = ql.T @ plain @ qr
        state[i] = [gl, gr, ql, qr, values_l, values_r]
        return x - lr * (update + weight_decay * x)

    return _walk(
        params,
        gradient,
        steps,
        matrix_step,
        lambda adam, x, g: adam.step(x, g, adam_lr, adam_b1, adam_b2, adam_eps, weight_decay),
    )
