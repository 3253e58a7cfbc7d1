"""An independent oracle: the optimizers from their published equations, in plain float64 NumPy.

The code is imperative on purpose: there is one function per optimizer, with explicit loops over the parameters (and
mostly over their coordinates), and two optimizers share nothing but the copying of arrays. Every function takes the
start (a list of arrays), a gradient function on such lists and a number of steps. It returns the steps + 1 points, of
which the first is the start; if the method has a second sequence of points (averages), it returns the pair of both.
"""

import math

import numpy as np


def _copies(arrays):
    return [np.array(array, dtype=np.float64) for array in arrays]


def _zeros(arrays):
    return [np.zeros(np.shape(array), dtype=np.float64) for array in arrays]


def _norm(array):
    total = 0.0
    for value in np.ravel(array):
        total += float(value) ** 2
    return math.sqrt(total)


def _sign(value):
    if value > 0:
        return 1.0
    if value < 0:
        return -1.0
    return 0.0


def yellowfin(
    params,
    gradient,
    steps,
    *,
    lr_factor,
    initial_lr,
    initial_momentum,
    beta,
    window,
    eps,
    slow_start,
    stat_protect,
    guard,
    weight_decay,
):
    """Zhang, Mitliagkas, "YellowFin and the Art of Momentum Tuning", 2017/2019, algorithms 1-4; details as in the
    authors' PyTorch code (tuner_utils/yellowfin.py) with zero-debias, log smoothing and adaptive clipping enabled.

    The paper does not specify the clipping, the slow start, the eps and which averages are debiased; these follow the
    code: h_min, h_max, C and D are debiased when they are read, the averages inside D are not. Clipping is to exactly
    the threshold (the code's torch clip divides by norm + 1e-6), and the root of SingleStep is exact (the code adds eps
    to a divisor). The code has two constants with the value 100, which are separate here: `stat_protect` (a factor on
    the squared norm) and `guard` (a bound on the length of a step without momentum). The velocity includes the first
    gradient, which torch's SGD drops if the momentum is 0 there; `initial_momentum` acts on a velocity of 0.
    """
    x = _copies(params)
    velocity = _zeros(x)
    g_average = _zeros(x)
    n2_average = 0.0
    n_average = 0.0
    log_h_min_average = 0.0
    log_h_max_average = 0.0
    d_average = 0.0
    h_max = None
    curvature_window = [0.0] * window
    snapshots = [_copies(x)]
    for i in range(steps):
        g = _copies(gradient(_copies(x)))
        h_max_previous = h_max
        debias = 1 - beta ** (i + 1)

        # 1. protect the statistics from an exploding gradient
        length = math.sqrt(sum(float(value) ** 2 for a in g for value in np.ravel(a)))
        if i > 1:
            longest = math.sqrt(stat_protect * h_max_previous) + eps
            if length > longest:
                g = [a * (longest / length) for a in g]
        n2 = sum(float(value) ** 2 for a in g for value in np.ravel(a))

        # 2. is it exploding?
        exploding = i >= 1 and n2 >= h_max_previous

        # 3. E ||g||^2
        n2_average = beta * n2_average + (1 - beta) * n2

        # 4. CurvatureRange
        curvature_window[i % window] = n2
        seen = curvature_window[: min(window, i + 1)]
        log_h_min_average = beta * log_h_min_average + (1 - beta) * math.log(min(seen) + eps)
        log_h_max_average = beta * log_h_max_average + (1 - beta) * math.log(max(seen) + eps)
        h_min = math.exp(log_h_min_average / debias)
        h_max = math.exp(log_h_max_average / debias)

        # 5. GradientVariance
        squares = 0.0
        for k in range(len(x)):
            g_average[k] = beta * g_average[k] + (1 - beta) * g[k]
            for value in np.ravel(g_average[k]):
                squares += float(value) ** 2
        c = max(n2_average / debias - squares / debias**2, eps)

        # 6. DistanceToOpt
        n_average = beta * n_average + (1 - beta) * math.sqrt(n2)
        d_average = beta * d_average + (1 - beta) * n_average / (n2_average + eps)
        d = d_average / debias

        # 7. SingleStep: min over r = sqrt(mu) of r^2 D^2 + (1 - r)^4 C / h_min^2: its derivative is 0
        if i == 0:
            lr = initial_lr
            mu = initial_momentum
        else:
            p = (d + eps) ** 2 * (h_min + eps) ** 2 / (2 * (c + eps))
            below, above = 0.0, 1.0  # bisection for the root of (r - 1)^3 + p r, which grows with r
            for _ in range(200):
                middle = (below + above) / 2
                if (middle - 1) ** 3 + p * middle < 0:
                    below = middle
                else:
                    above = middle
            root = (below + above) / 2
            ratio = math.sqrt(max((h_max + eps) / (h_min + eps), 1 + eps))
            mu = max(root**2, ((ratio - 1) / (ratio + 1)) ** 2)
            lr = (1 - math.sqrt(mu)) ** 2 / (h_min + eps)
            lr = lr * min(1.0, (i + 1) / (slow_start * window))
        lr = lr * lr_factor

        # 9. no catastrophic move
        if lr * math.sqrt(n2) >= guard:
            lr = guard / math.sqrt(n2 + eps)

        # 10. clip an exploding gradient, then heavy ball
        if exploding:
            longest = math.sqrt(h_max_previous) + eps
            length = math.sqrt(n2)
            if length > longest:
                g = [a * (longest / length) for a in g]
        for k in range(len(x)):
            velocity[k] = mu * velocity[k] + (g[k] + weight_decay * x[k])
            x[k] = x[k] - lr * velocity[k]
        snapshots.append(_copies(x))
    return snapshots


def demon_sgdm(params, gradient, steps, *, lr, momentum, total_steps, weight_decay):
    """Chen, Wolfe, Li, Kyrillidis, "Demon: Improved Neural Network Training with Momentum Decay", 2019/2022,
    algorithm 1 (Demon SGDM).

    The velocity is in units of the parameters (it includes the rate). t counts from 0, so the first step has the full
    momentum; from t = total_steps on, beta_t is 0. Weight decay (not in the paper) is L2.
    """
    x = _copies(params)
    v = _zeros(x)
    snapshots = [_copies(x)]
    for t in range(steps):
        left = max(0.0, 1 - t / total_steps)
        beta_t = momentum * left / ((1 - momentum) + momentum * left)
        g = _copies(gradient(_copies(x)))
        for i in range(len(x)):
            for j in np.ndindex(x[i].shape):
                g_ij = g[i][j] + weight_decay * x[i][j]
                v[i][j] = beta_t * v[i][j] - lr * g_ij
                x[i][j] = x[i][j] + v[i][j]
        snapshots.append(_copies(x))
    return snapshots


def demon_adam(params, gradient, steps, *, lr, momentum, b2, eps, total_steps, weight_decay, form):
    """Chen, Wolfe, Li, Kyrillidis, "Demon: Improved Neural Network Training with Momentum Decay", 2019/2022,
    algorithm 2 (Demon Adam).

    form="undamped" is the paper's m = g + beta_t m, without a correction of m. form="ema" is the form of several
    implementations, m = beta_t m + (1 - beta_t) g, here divided by the sum of its weights, 1 - prod(beta_0 .. beta_t).
    t counts from 0 for beta_t and from 1 for the correction of v. Weight decay (not in the paper) is L2.
    """
    x = _copies(params)
    m = _zeros(x)
    v = _zeros(x)
    product = 1.0
    snapshots = [_copies(x)]
    for t in range(steps):
        left = max(0.0, 1 - t / total_steps)
        beta_t = momentum * left / ((1 - momentum) + momentum * left)
        product = product * beta_t
        g = _copies(gradient(_copies(x)))
        for i in range(len(x)):
            for j in np.ndindex(x[i].shape):
                g_ij = g[i][j] + weight_decay * x[i][j]
                if form == "undamped":
                    m[i][j] = g_ij + beta_t * m[i][j]
                    m_hat = m[i][j]
                elif form == "ema":
                    m[i][j] = beta_t * m[i][j] + (1 - beta_t) * g_ij
                    m_hat = m[i][j] / (1 - product)
                else:
                    raise ValueError(form)
                v[i][j] = b2 * v[i][j] + (1 - b2) * g_ij**2
                v_hat = v[i][j] / (1 - b2 ** (t + 1))
                x[i][j] = x[i][j] - lr * m_hat / (math.sqrt(v_hat) + eps)
        snapshots.append(_copies(x))
    return snapshots


def sutskever_nesterov(params, gradient, steps, *, lr, momentum, weight_decay):
    """Sutskever, Martens, Dahl, Hinton, "On the importance of initialization and momentum in deep learning", 2013,
    equations 3-4.

    The points are those where the gradient is taken, x + momentum v; the second sequence is that of the x. Weight decay
    is L2, at the point where the gradient is taken.
    """
    x = _copies(params)
    v = _zeros(x)
    snapshots = [_copies(x)]
    averages = [_copies(x)]
    for _ in range(steps):
        ahead = []
        for i in range(len(x)):
            ahead.append(x[i] + momentum * v[i])
        g = _copies(gradient(_copies(ahead)))
        for i in range(len(x)):
            v[i] = momentum * v[i] - lr * (g[i] + weight_decay * ahead[i])
            x[i] = x[i] + v[i]
        snapshots.append(_copies([x[i] + momentum * v[i] for i in range(len(x))]))
        averages.append(_copies(x))
    return snapshots, averages


def amsgrad_paper(params, gradient, steps, *, lr, b1, b2, eps):
    """Reddi, Kale, Kumar, "On the Convergence of Adam and Beyond", 2018, algorithm 2.

    There are no bias corrections, and b1 and the rate are constant. The paper has no eps; here it is added to the root.
    """
    x = _copies(params)
    m = _zeros(x)
    v = _zeros(x)
    v_max = _zeros(x)
    snapshots = [_copies(x)]
    for _ in range(steps):
        g = _copies(gradient(_copies(x)))
        for i in range(len(x)):
            for j in np.ndindex(x[i].shape):
                m[i][j] = b1 * m[i][j] + (1 - b1) * g[i][j]
                v[i][j] = b2 * v[i][j] + (1 - b2) * g[i][j] ** 2
                v_max[i][j] = max(v_max[i][j], v[i][j])
                x[i][j] = x[i][j] - lr * m[i][j] / (math.sqrt(v_max[i][j]) + eps)
        snapshots.append(_copies(x))
    return snapshots


def muon(
    params,
    gradient,
    steps,
    *,
    lr,
    momentum,
    weight_decay,
    ns_steps,
    eps,
    nesterov,
    adam_lr,
    adam_b1,
    adam_b2,
    adam_eps,
):
    """Jordan, "Muon: An optimizer for hidden layers in neural networks", 2024 (blog post and KellerJordan/Muon).

    Arithmetic is float64 instead of bfloat16. Matrices are (inputs, outputs), the transpose of the code's, so the
    factor is sqrt(max(1, columns / rows)). Arrays with more axes are reshaped to (all but the last, last), and the
    factor is that of the reshaped matrix (the code takes the last two axes of the unreshaped kernel). The momentum is
    an average without bias correction. Arrays of fewer than two axes use AdamW (Loshchilov & Hutter 2019; the decay is
    multiplied by the rate and applied to the old x).
    """
    a, b, c = 3.4445, -4.7750, 2.0315
    x = _copies(params)
    m = _zeros(x)
    v = _zeros(x)
    snapshots = [_copies(x)]
    for t in range(1, steps + 1):
        g = _copies(gradient(_copies(x)))
        for i in range(len(x)):
            if x[i].ndim >= 2:
                m[i] = momentum * m[i] + (1 - momentum) * g[i]
                update = (1 - momentum) * g[i] + momentum * m[i] if nesterov else m[i]
                columns = x[i].shape[-1]
                rows = x[i].size // columns
                matrix = update.reshape(rows, columns)
                wide = matrix.T if rows > columns else matrix
                wide = wide / (_norm(wide) + eps)
                for _ in range(ns_steps):
                    gram = wide @ wide.T
                    wide = a * wide + (b * gram + c * gram @ gram) @ wide
                matrix = wide.T if rows > columns else wide
                matrix = matrix * math.sqrt(max(1.0, columns / rows))
                x[i] = x[i] * (1 - lr * weight_decay) - lr * matrix.reshape(x[i].shape)
            else:
                for j in np.ndindex(x[i].shape):
                    m[i][j] = adam_b1 * m[i][j] + (1 - adam_b1) * g[i][j]
                    v[i][j] = adam_b2 * v[i][j] + (1 - adam_b2) * g[i][j] ** 2
                    m_hat = m[i][j] / (1 - adam_b1**t)
                    v_hat = v[i][j] / (1 - adam_b2**t)
                    step = m_hat / (math.sqrt(v_hat) + adam_eps)
                    x[i][j] = x[i][j] - adam_lr * (step + weight_decay * x[i][j])
        snapshots.append(_copies(x))
    return snapshots


def lamb(params, gradient, steps, *, lr, b1, b2, eps, weight_decay):
    """You, Li, Reddi, et al., "Large Batch Optimization for Deep Learning: Training BERT in 76 minutes", 2020,
    algorithm 2.

    phi is the identity; both moments are bias-corrected; the ratio of the norms is 1 where either norm is 0.
    """
    x = _copies(params)
    m = _zeros(x)
    v = _zeros(x)
    snapshots = [_copies(x)]
    for t in range(1, steps + 1):
        g = _copies(gradient(_copies(x)))
        for i in range(len(x)):
            r = np.zeros(x[i].shape)
            for j in np.ndindex(x[i].shape):
                m[i][j] = b1 * m[i][j] + (1 - b1) * g[i][j]
                v[i][j] = b2 * v[i][j] + (1 - b2) * g[i][j] ** 2
                m_hat = m[i][j] / (1 - b1**t)
                v_hat = v[i][j] / (1 - b2**t)
                r[j] = m_hat / (math.sqrt(v_hat) + eps) + weight_decay * x[i][j]
            x_norm = _norm(x[i])
            r_norm = _norm(r)
            ratio = 1.0 if x_norm == 0 or r_norm == 0 else x_norm / r_norm
            x[i] = x[i] - lr * ratio * r
        snapshots.append(_copies(x))
    return snapshots


def lars(params, gradient, steps, *, lr, momentum, weight_decay, coefficient, eps):
    """You, Gitman, Ginsburg, "Large Batch Training of Convolutional Networks", 2017, algorithm 1 and equation 6.

    The velocity includes the rate. eps (not in the paper) is added to the denominator; where the norm of x or of g is
    0, the local rate is 1, without the coefficient. Every array is scaled, including vectors.
    """
    x = _copies(params)
    v = _zeros(x)
    snapshots = [_copies(x)]
    for _ in range(steps):
        g = _copies(gradient(_copies(x)))
        for i in range(len(x)):
            x_norm = _norm(x[i])
            g_norm = _norm(g[i])
            local = 1.0
            if x_norm > 0 and g_norm > 0:
                local = coefficient * x_norm / (g_norm + weight_decay * x_norm + eps)
            v[i] = momentum * v[i] + lr * local * (g[i] + weight_decay * x[i])
            x[i] = x[i] - v[i]
        snapshots.append(_copies(x))
    return snapshots


def adan(params, gradient, steps, *, lr, b1, b2, b3, eps, weight_decay):
    """Xie, Zhou, Li, Lin, Yan, "Adan: Adaptive Nesterov Momentum Algorithm for Faster Optimizing Deep Models",
    2022/2024, algorithm 1; the rest as in the authors' code (sail-sg/Adan, adan.py).

    b1, b2, b3 are the weights of the past (0.98, 0.92, 0.99), one minus the paper's. All three averages start at zero
    and each is divided by its own 1 - b^t, t from 1: m by 1 - b1^t, v by 1 - b2^t, n (inside the root) by 1 - b3^t;
    the paper's pseudocode has no corrections. b2, the paper's 1 - beta_2, is also the weight of the gradient
    difference inside n and of v in the update. That difference is 0 at the first step, but its correction counts
    from there on. eps is outside the root; the decay is proximal, a division by 1 + lr weight_decay.
    """
    x = _copies(params)
    m = _zeros(x)
    v = _zeros(x)
    n = _zeros(x)
    g_previous = None
    snapshots = [_copies(x)]
    for t in range(1, steps + 1):
        g = _copies(gradient(_copies(x)))
        if t == 1:
            g_previous = _copies(g)
        for i in range(len(x)):
            for j in np.ndindex(x[i].shape):
                difference = g[i][j] - g_previous[i][j]
                m[i][j] = b1 * m[i][j] + (1 - b1) * g[i][j]
                v[i][j] = b2 * v[i][j] + (1 - b2) * difference
                n[i][j] = b3 * n[i][j] + (1 - b3) * (g[i][j] + b2 * difference) ** 2
                m_hat = m[i][j] / (1 - b1**t)
                v_hat = v[i][j] / (1 - b2**t)
                n_hat = n[i][j] / (1 - b3**t)
                update = (m_hat + b2 * v_hat) / (math.sqrt(n_hat) + eps)
                x[i][j] = (x[i][j] - lr * update) / (1 + lr * weight_decay)
        g_previous = g
        snapshots.append(_copies(x))
    return snapshots


def novograd(params, gradient, steps, *, lr, b1, b2, eps, weight_decay):
    """Ginsburg, Castonguay, Hrinchuk, et al., "Stochastic Gradient Methods with Layer-wise Adaptive Moments for
    Training of Deep Networks", 2019, algorithm 1.

    One second moment per array. The new term of the momentum has weight 1 (not 1 - b1); eps is outside the root.
    """
    x = _copies(params)
    m = _zeros(x)
    v = [0.0 for _ in x]
    snapshots = [_copies(x)]
    for t in range(1, steps + 1):
        g = _copies(gradient(_copies(x)))
        for i in range(len(x)):
            square = _norm(g[i]) ** 2
            if t == 1:
                v[i] = square
                m[i] = g[i] / (math.sqrt(v[i]) + eps) + weight_decay * x[i]
            else:
                v[i] = b2 * v[i] + (1 - b2) * square
                m[i] = b1 * m[i] + (g[i] / (math.sqrt(v[i]) + eps) + weight_decay * x[i])
            x[i] = x[i] - lr * m[i]
        snapshots.append(_copies(x))
    return snapshots


def sophia(params, gradient, steps, *, lr, b1, b2, gamma, eps, weight_decay, interval, hessian):
    """Liu, Li, Hall, Liang, Ma, "Sophia: A Scalable Stochastic Second-order Optimizer for Language Model
    Pre-training", 2023, algorithm 3.

    hessian(params, gradients) is the estimator of the Hessian's diagonal, called at the steps t = 1, 1 + interval, ...
    before the update uses it. There is no bias correction; the decay comes before the update.
    """
    x = _copies(params)
    m = _zeros(x)
    h = _zeros(x)
    snapshots = [_copies(x)]
    for t in range(1, steps + 1):
        g = _copies(gradient(_copies(x)))
        estimate = None
        if (t - 1) % interval == 0:
            estimate = _copies(hessian(_copies(x), _copies(g)))
        for i in range(len(x)):
            for j in np.ndindex(x[i].shape):
                m[i][j] = b1 * m[i][j] + (1 - b1) * g[i][j]
                if estimate is not None:
                    h[i][j] = b2 * h[i][j] + (1 - b2) * estimate[i][j]
                step = m[i][j] / max(gamma * h[i][j], eps)
                step = min(1.0, max(-1.0, step))
                x[i][j] = x[i][j] - lr * weight_decay * x[i][j]
                x[i][j] = x[i][j] - lr * step
        snapshots.append(_copies(x))
    return snapshots


def lion(params, gradient, steps, *, lr, b1, b2, weight_decay):
    """Chen, Liang, Huang, et al., "Symbolic Discovery of Optimization Algorithms", 2023, algorithm 2 (Lion).

    sign(0) is 0.
    """
    x = _copies(params)
    m = _zeros(x)
    snapshots = [_copies(x)]
    for _ in range(steps):
        g = _copies(gradient(_copies(x)))
        for i in range(len(x)):
            for j in np.ndindex(x[i].shape):
                c = b1 * m[i][j] + (1 - b1) * g[i][j]
                x[i][j] = x[i][j] - lr * (_sign(c) + weight_decay * x[i][j])
                m[i][j] = b2 * m[i][j] + (1 - b2) * g[i][j]
        snapshots.append(_copies(x))
    return snapshots


def signum(params, gradient, steps, *, lr, momentum, weight_decay):
    """Bernstein, Wang, Azizzadenesheli, Anandkumar, "signSGD: Compressed Optimisation for Non-Convex Problems", 2018,
    algorithm 2 (Signum).

    sign(0) is 0; the decay is decoupled.
    """
    x = _copies(params)
    m = _zeros(x)
    snapshots = [_copies(x)]
    for _ in range(steps):
        g = _copies(gradient(_copies(x)))
        for i in range(len(x)):
            for j in np.ndindex(x[i].shape):
                m[i][j] = momentum * m[i][j] + (1 - momentum) * g[i][j]
                x[i][j] = x[i][j] - lr * (_sign(m[i][j]) + weight_decay * x[i][j])
        snapshots.append(_copies(x))
    return snapshots


def adabelief(params, gradient, steps, *, lr, b1, b2, eps, weight_decay):
    """Zhuang, Tang, Ding, et al., "AdaBelief Optimizer: Adapting Stepsizes by the Belief in Observed Gradients", 2020,
    algorithm 2.

    eps is added to s at every step, inside the recursion (so it accumulates), and again to the root; m in g - m is
    already the new one. The decay is decoupled, and there is no rectification.
    """
    x = _copies(params)
    m = _zeros(x)
    s = _zeros(x)
    snapshots = [_copies(x)]
    for t in range(1, steps + 1):
        g = _copies(gradient(_copies(x)))
        for i in range(len(x)):
            for j in np.ndindex(x[i].shape):
                m[i][j] = b1 * m[i][j] + (1 - b1) * g[i][j]
                s[i][j] = b2 * s[i][j] + (1 - b2) * (g[i][j] - m[i][j]) ** 2 + eps
                m_hat = m[i][j] / (1 - b1**t)
                s_hat = s[i][j] / (1 - b2**t)
                x[i][j] = x[i][j] - lr * (m_hat / (math.sqrt(s_hat) + eps) + weight_decay * x[i][j])
        snapshots.append(_copies(x))
    return snapshots


def yogi(params, gradient, steps, *, lr, b1, b2, eps, initial_accumulator_value, weight_decay):
    """Zaheer, Reddi, Sachan, Kale, Kumar, "Adaptive Methods for Nonconvex Optimization", 2018, algorithm 2 (Yogi).

    As in TensorFlow Addons and torch_optimizer: both moments start at the initial value and are both bias-corrected
    as if they had started at 0 (the paper's algorithm corrects neither); eps is outside the root; weight decay is L2.
    """
    x = _copies(params)
    m = [array + initial_accumulator_value for array in _zeros(x)]
    v = [array + initial_accumulator_value for array in _zeros(x)]
    m = _copies(m)
    v = _copies(v)
    snapshots = [_copies(x)]
    for t in range(1, steps + 1):
        g = _copies(gradient(_copies(x)))
        for i in range(len(x)):
            for j in np.ndindex(x[i].shape):
                g_ij = g[i][j] + weight_decay * x[i][j]
                m[i][j] = b1 * m[i][j] + (1 - b1) * g_ij
                v[i][j] = v[i][j] - (1 - b2) * _sign(v[i][j] - g_ij**2) * g_ij**2
                m_hat = m[i][j] / (1 - b1**t)
                v_hat = v[i][j] / (1 - b2**t)
                x[i][j] = x[i][j] - lr * m_hat / (math.sqrt(v_hat) + eps)
        snapshots.append(_copies(x))
    return snapshots


def adafactor(params, gradient, steps, *, lr, beta2_decay, eps1, eps2, clip_threshold, weight_decay):
    """Shazeer, Stern, "Adafactor: Adaptive Learning Rates with Sublinear Memory Cost", 2018, algorithms 4-5, with the
    choices of torch.optim.Adafactor.

    These choices are: means instead of sums in rows and columns; eps1 as a lower bound (of the mean of the rows, and
    squared of the estimate) instead of an addition to g^2; the relative step min(lr, 1/sqrt(t)); b2_t = 1 -
    t^beta2_decay; decoupled decay by lr before the update; and the scale of x measured before the decay. Arrays of two
    or more axes are factored over the last two.
    """
    x = _copies(params)
    rows = [np.zeros(array.shape[:-1]) if array.ndim >= 2 else None for array in x]
    columns = [np.zeros(array.shape[:-2] + array.shape[-1:]) if array.ndim >= 2 else None for array in x]
    v = _zeros(x)
    snapshots = [_copies(x)]
    for t in range(1, steps + 1):
        g = _copies(gradient(_copies(x)))
        weight = float(t) ** beta2_decay
        rho = min(lr, 1 / math.sqrt(t))
        for i in range(len(x)):
            alpha = max(eps2, _norm(x[i]) / math.sqrt(x[i].size)) * rho
            x[i] = np.array(x[i] * (1 - lr * weight_decay))
            estimate = np.zeros(x[i].shape)
            if x[i].ndim >= 2:
                n_rows, n_columns = x[i].shape[-2:]
                for lead in np.ndindex(x[i].shape[:-2]):
                    for r in range(n_rows):
                        mean = sum(float(g[i][(*lead, r, c)]) ** 2 for c in range(n_columns)) / n_columns
                        rows[i][(*lead, r)] = (1 - weight) * rows[i][(*lead, r)] + weight * mean
                    for c in range(n_columns):
                        mean = sum(float(g[i][(*lead, r, c)]) ** 2 for r in range(n_rows)) / n_rows
                        columns[i][(*lead, c)] = (1 - weight) * columns[i][(*lead, c)] + weight * mean
                    mean_of_rows = sum(float(rows[i][(*lead, r)]) for r in range(n_rows)) / n_rows
                    for r in range(n_rows):
                        for c in range(n_columns):
                            product = rows[i][(*lead, r)] * columns[i][(*lead, c)]
                            estimate[(*lead, r, c)] = product / max(mean_of_rows, eps1)
            else:
                for j in np.ndindex(x[i].shape):
                    v[i][j] = (1 - weight) * v[i][j] + weight * g[i][j] ** 2
                    estimate[j] = v[i][j]
            update = np.zeros(x[i].shape)
            for j in np.ndindex(x[i].shape):
                update[j] = g[i][j] / math.sqrt(max(estimate[j], eps1**2))
            rms = _norm(update) / math.sqrt(x[i].size)
            x[i] = x[i] - alpha * update / max(1.0, rms / clip_threshold)
        snapshots.append(_copies(x))
    return snapshots


def schedule_free_sgd(params, gradient, steps, *, lr, momentum, weight_decay, warmup_steps, r, weight_lr_power):
    """Defazio, Yang, Mehta, Mishchenko, Khaled, Cutkosky, "The Road Less Scheduled", 2024, equations 3-5 (Schedule-Free
    SGD); warm-up and weights as in the package schedulefree 1.4.1.

    The points are y, where the gradient is taken; the averages are x. The decay is L2, at y. The weight of step t
    (from 1) in the average is t^r times the largest rate so far to the power weight_lr_power; the warm-up factor is
    t / warmup_steps.
    """
    x = _copies(params)
    y = _copies(params)
    z = _copies(params)
    largest_rate = 0.0
    weight_sum = 0.0
    snapshots = [_copies(y)]
    averages = [_copies(x)]
    for t in range(1, steps + 1):
        g = _copies(gradient(_copies(y)))
        rate = lr * t / warmup_steps if t <= warmup_steps else lr
        largest_rate = max(largest_rate, rate)
        weight = t**r * largest_rate**weight_lr_power
        weight_sum = weight_sum + weight
        c = weight / weight_sum if weight_sum != 0 else 0.0
        for i in range(len(x)):
            z[i] = z[i] - rate * (g[i] + weight_decay * y[i])
            x[i] = (1 - c) * x[i] + c * z[i]
            y[i] = (1 - momentum) * z[i] + momentum * x[i]
        snapshots.append(_copies(y))
        averages.append(_copies(x))
    return snapshots, averages


def schedule_free_adamw(params, gradient, steps, *, lr, b1, b2, eps, weight_decay, warmup_steps, r, weight_lr_power):
    """Defazio, Yang, Mehta, Mishchenko, Khaled, Cutkosky, "The Road Less Scheduled", 2024, algorithm 1 (Schedule-Free
    AdamW); warm-up, bias correction and weights as in the package schedulefree 1.4.1.

    The points are y, where the gradient is taken; the averages are x. The decay is added to the normalised gradient,
    at y. v is bias-corrected inside the root (the paper puts the correction into the rate, hence also into the
    weights of the average). Weights and warm-up as in schedule_free_sgd.
    """
    x = _copies(params)
    y = _copies(params)
    z = _copies(params)
    v = _zeros(params)
    largest_rate = 0.0
    weight_sum = 0.0
    snapshots = [_copies(y)]
    averages = [_copies(x)]
    for t in range(1, steps + 1):
        g = _copies(gradient(_copies(y)))
        rate = lr * t / warmup_steps if t <= warmup_steps else lr
        largest_rate = max(largest_rate, rate)
        weight = t**r * largest_rate**weight_lr_power
        weight_sum = weight_sum + weight
        c = weight / weight_sum if weight_sum != 0 else 0.0
        for i in range(len(x)):
            for j in np.ndindex(x[i].shape):
                v[i][j] = b2 * v[i][j] + (1 - b2) * g[i][j] ** 2
                v_hat = v[i][j] / (1 - b2**t)
                step = g[i][j] / (math.sqrt(v_hat) + eps) + weight_decay * y[i][j]
                z[i][j] = z[i][j] - rate * step
                x[i][j] = (1 - c) * x[i][j] + c * z[i][j]
                y[i][j] = (1 - b1) * z[i][j] + b1 * x[i][j]
        snapshots.append(_copies(y))
        averages.append(_copies(x))
    return snapshots, averages


def asgd(params, gradient, steps, *, lr, lambd, alpha, t0, weight_decay):
    """Polyak, Juditsky, "Acceleration of Stochastic Approximation by Averaging", 1992, in the form of Bottou's
    averaged SGD as torch.optim.ASGD has it.

    eta (the rate) and mu (the weight of the newest point in the average) are those computed at the end of the previous
    step, starting with lr and 1; mu = 1 copies the point. weight_decay is L2, in addition to the decay lambd eta.
    """
    x = _copies(params)
    ax = _copies(params)
    eta = lr
    mu = 1.0
    snapshots = [_copies(x)]
    averages = [_copies(ax)]
    for t in range(1, steps + 1):
        g = _copies(gradient(_copies(x)))
        for i in range(len(x)):
            total = g[i] + weight_decay * x[i]
            x[i] = x[i] * (1 - lambd * eta) - eta * total
            ax[i] = x[i] + 0.0 if mu == 1 else ax[i] + mu * (x[i] - ax[i])
        eta = lr / (1 + lambd * lr * t) ** alpha
        mu = 1 / max(1, t - t0)
        snapshots.append(_copies(x))
        averages.append(_copies(ax))
    return snapshots, averages


def shampoo(params, gradient, steps, *, lr, momentum, eps, weight_decay):
    """Gupta, Koren, Singer, "Shampoo: Preconditioned Stochastic Tensor Optimization", 2018, algorithms 1 and 2.

    An array of k axes has one matrix per axis, eps I plus the sum of the products of the unfolded gradients, each to
    the power -1/(2k); scalars count as arrays of shape (1,). The new gradient enters the statistics before they are
    used. L2 decay is added to the gradient, and so to the statistics too; momentum (not in the algorithm) is heavy
    ball on the preconditioned gradient.
    """
    x = _copies(params)
    velocity = _zeros(x)
    statistics = []
    for array in x:
        shape = array.shape if array.ndim > 0 else (1,)
        statistics.append([eps * np.eye(n) for n in shape])
    snapshots = [_copies(x)]
    for _ in range(steps):
        g = _copies(gradient(_copies(x)))
        for i in range(len(x)):
            total = g[i] + weight_decay * x[i]
            total = np.reshape(total, x[i].shape if x[i].ndim > 0 else (1,))
            k = total.ndim
            for axis in range(k):
                unfolded = np.moveaxis(total, axis, 0).reshape(total.shape[axis], -1)
                statistics[i][axis] = statistics[i][axis] + unfolded @ unfolded.T
            preconditioned = total
            for axis in range(k):
                eigenvalues, vectors = np.linalg.eigh(statistics[i][axis])
                root = np.zeros(statistics[i][axis].shape)
                for n in range(len(eigenvalues)):
                    root = root + float(eigenvalues[n]) ** (-1 / (2 * k)) * np.outer(vectors[:, n], vectors[:, n])
                product = np.tensordot(root, preconditioned, axes=(1, axis))
                preconditioned = np.moveaxis(product, 0, axis)
            velocity[i] = momentum * velocity[i] + np.reshape(preconditioned, x[i].shape)
            x[i] = x[i] - lr * velocity[i]
        snapshots.append(_copies(x))
    return snapshots


def soap(
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
    precondition_frequency,
    precondition_1d,
):
    """Vyas, Morwani, Zhao, et al., "SOAP: Improving and Stabilizing Shampoo using Adam", 2024, algorithm 3; the order
    of the operations as in the authors' code (nikhilvyas/SOAP, soap.py), without size limits or merging of axes.

    The first gradient only initializes the statistics and their eigenbases: no parameter moves, not even scalars and
    vectors. Adam's count t starts at the second gradient; its eps is added to the uncorrected root. The decay follows
    the step, so it acts on the new point. m is kept in the rotated basis and is rotated back and forth when the bases
    change, while v only has its axes reordered. Vectors have a basis only with precondition_1d, scalars never. If a
    first statistic has a null space of two or more dimensions (a 5 x 3 gradient, a vector of three), the basis within
    it is arbitrary and the path depends on it; in a null space of one dimension, a tiny eps still admits rounding
    errors, divided by their own size.
    """
    x = _copies(params)
    m = _zeros(x)
    v = _zeros(x)
    statistics = []
    for array in x:
        if array.ndim >= 2 or (array.ndim == 1 and precondition_1d):
            statistics.append([np.zeros((n, n)) for n in array.shape])
        else:
            statistics.append([])
    bases = [[] for _ in x]

    def rotate(array, matrices):
        for axis, q in enumerate(matrices):
            array = np.moveaxis(np.tensordot(q.T, array, axes=(1, axis)), 0, axis)
        return array

    def rotate_back(array, matrices):
        for axis, q in enumerate(matrices):
            array = np.moveaxis(np.tensordot(q, array, axes=(1, axis)), 0, axis)
        return array

    snapshots = [_copies(x)]
    for t in range(steps):
        g = _copies(gradient(_copies(x)))
        for i in range(len(x)):
            if t > 0:
                rotated = rotate(g[i], bases[i])
                m[i] = b1 * m[i] + (1 - b1) * rotated
                v[i] = b2 * v[i] + (1 - b2) * rotated**2
                rate = lr * math.sqrt(1 - b2**t) / (1 - b1**t)
                x[i] = x[i] - rate * rotate_back(m[i] / (np.sqrt(v[i]) + eps), bases[i])
                x[i] = x[i] - lr * weight_decay * x[i]
            for axis in range(len(statistics[i])):
                unfolded = np.moveaxis(g[i], axis, 0).reshape(g[i].shape[axis], -1)
                outer = unfolded @ unfolded.T
                statistics[i][axis] = shampoo_beta * statistics[i][axis] + (1 - shampoo_beta) * outer
            if t == 0:
                for axis in range(len(statistics[i])):
                    _, vectors = np.linalg.eigh(statistics[i][axis])
                    bases[i].append(vectors[:, ::-1])
            elif t % precondition_frequency == 0:
                in_original_space = rotate_back(m[i], bases[i])
                for axis in range(len(statistics[i])):
                    matrix = statistics[i][axis]
                    q = bases[i][axis]
                    descending = [-float(q[:, n] @ matrix @ q[:, n]) for n in range(len(q))]
                    order = sorted(range(len(q)), key=descending.__getitem__)
                    v[i] = np.take(v[i], order, axis=axis)
                    bases[i][axis], _ = np.linalg.qr(matrix @ q[:, order])
                m[i] = rotate(in_original_space, bases[i])
        snapshots.append(_copies(x))
    return snapshots


def madgrad(params, gradient, steps, *, lr, momentum, eps, weight_decay):
    """Defazio, Jelassi, "Adaptivity without Compromise: A Momentumized, Adaptive, Dual Averaged Gradient Method for
    Stochastic Optimization", 2021, algorithm 1; details as in facebookresearch/madgrad.

    Here c = 1 - momentum. As in the code, eps is outside the cube root and is also added to lr. Weight decay is L2.
    """
    x0 = _copies(params)
    x = _copies(params)
    s = _zeros(x)
    v = _zeros(x)
    c = 1 - momentum
    snapshots = [_copies(x)]
    for k in range(steps):
        g = _copies(gradient(_copies(x)))
        lambda_k = (lr + eps) * math.sqrt(k + 1)
        for i in range(len(x)):
            for j in np.ndindex(x[i].shape):
                g_ij = g[i][j] + weight_decay * x[i][j]
                s[i][j] = s[i][j] + lambda_k * g_ij
                v[i][j] = v[i][j] + lambda_k * g_ij**2
                z = x0[i][j] - s[i][j] / (math.cbrt(v[i][j]) + eps)
                x[i][j] = (1 - c) * x[i][j] + c * z
        snapshots.append(_copies(x))
    return snapshots


def rprop(params, gradient, steps, *, initial_step, eta_minus, eta_plus, min_step, max_step):
    """Riedmiller, Braun, "A Direct Adaptive Method for Faster Backpropagation Learning: The RPROP Algorithm", 1993, in
    the form of torch.optim.Rprop, which is iRprop- (Igel, Huesken, 2000).

    After a change of sign the coordinate rests and the next step counts as if there had been no gradient before. The
    bounds also hold where the size is not changed, so they apply to initial_step at the first step.
    """
    x = _copies(params)
    size = [array + initial_step for array in _zeros(x)]
    size = _copies(size)
    g_previous = _zeros(x)
    snapshots = [_copies(x)]
    for _ in range(steps):
        g = _copies(gradient(_copies(x)))
        for i in range(len(x)):
            for j in np.ndindex(x[i].shape):
                g_ij = float(g[i][j])
                agreement = _sign(g_ij * g_previous[i][j])
                if agreement > 0:
                    size[i][j] = size[i][j] * eta_plus
                elif agreement < 0:
                    size[i][j] = size[i][j] * eta_minus
                    g_ij = 0.0
                size[i][j] = min(max(size[i][j], min_step), max_step)
                x[i][j] = x[i][j] - _sign(g_ij) * size[i][j]
                g_previous[i][j] = g_ij
        snapshots.append(_copies(x))
    return snapshots
