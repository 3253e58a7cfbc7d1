"""An independent oracle: variants of Adam from their published equations, in plain float64 NumPy.

As in `numpy_optimizers`, there is one function per optimizer, with explicit loops, that takes the start, a gradient
function and a number of steps, and returns the steps + 1 points (a pair with the averages, if there are any).
Matrices are (inputs, outputs), the transpose of PyTorch's.
"""

import math

import numpy as np


def _copies(arrays):
    return [np.array(array, dtype=np.float64) for array in arrays]


def _zeros(arrays):
    return [np.zeros(np.shape(array), dtype=np.float64) for array in arrays]


def nadamw(params, gradient, steps, *, lr, b1, b2, eps, weight_decay):
    """Dozat, "Incorporating Nesterov Momentum into Adam", 2016, in the form of AlgoPerf's baseline NAdamW.

    The average of gradients is moved one more step towards the gradient, and then divided by the correction of the
    present step; AlgoPerf's code has neither Dozat's schedule of momenta nor the correction of the next step.
    """
    x = _copies(params)
    m = _zeros(x)
    v = _zeros(x)
    snapshots = [_copies(x)]
    for t in range(1, steps + 1):
        g = _copies(gradient(_copies(x)))
        for i in range(len(x)):
            for j in np.ndindex(x[i].shape):
                m[i][j] = b1 * m[i][j] + (1 - b1) * g[i][j]
                v[i][j] = b2 * v[i][j] + (1 - b2) * g[i][j] ** 2
                ahead = b1 * m[i][j] + (1 - b1) * g[i][j]
                step = (ahead / (1 - b1**t)) / (math.sqrt(v[i][j] / (1 - b2**t)) + eps)
                x[i][j] = x[i][j] - lr * (step + weight_decay * x[i][j])
        snapshots.append(_copies(x))
    return snapshots


def stable_adamw(params, gradient, steps, *, lr, b1, b2, eps, weight_decay):
    """Wortsman, Dettmers, Zettlemoyer, Morcos, Farhadi, Schmidt, "Stable and low-precision training for large-scale
    vision-language models", 2023, algorithm 2.

    The decays of both averages grow with t, which replaces the bias correction. The rate of a tensor is divided by the
    root mean square of g / sqrt(v) over the tensor where that exceeds 1, and the weight decay with it.
    """
    x = _copies(params)
    m = _zeros(x)
    v = _zeros(x)
    snapshots = [_copies(x)]
    for t in range(1, steps + 1):
        g = _copies(gradient(_copies(x)))
        decay1 = b1 * (1 - b1 ** (t - 1)) / (1 - b1**t)
        decay2 = b2 * (1 - b2 ** (t - 1)) / (1 - b2**t)
        for i in range(len(x)):
            total = 0.0
            for j in np.ndindex(x[i].shape):
                m[i][j] = decay1 * m[i][j] + (1 - decay1) * g[i][j]
                v[i][j] = decay2 * v[i][j] + (1 - decay2) * g[i][j] ** 2
                total += g[i][j] ** 2 / max(v[i][j], eps**2)
            eta = lr / max(1.0, math.sqrt(total / x[i].size))
            for j in np.ndindex(x[i].shape):
                x[i][j] = x[i][j] * (1 - eta * weight_decay)
                x[i][j] = x[i][j] - eta * m[i][j] / (math.sqrt(v[i][j]) + eps)
        snapshots.append(_copies(x))
    return snapshots


def adam_mini(params, gradient, steps, *, lr, b1, b2, eps, weight_decay, blocks):
    """Zhang, Chen, Li, Ding, Wu, Ye, Luo, Sun, "Adam-mini: Use Fewer Learning Rates To Gain More", 2024, algorithm 1.

    `blocks` holds, for every array, an array of labels of the same shape: elements with the same label share one
    second moment, the average of the mean of g^2 over them.
    """
    x = _copies(params)
    m = _zeros(x)
    v = [dict.fromkeys(np.unique(labels).tolist(), 0.0) for labels in blocks]
    snapshots = [_copies(x)]
    for t in range(1, steps + 1):
        g = _copies(gradient(_copies(x)))
        for i in range(len(x)):
            for label in v[i]:
                inside = [j for j in np.ndindex(x[i].shape) if blocks[i][j] == label]
                mean = sum(float(g[i][j]) ** 2 for j in inside) / len(inside)
                v[i][label] = b2 * v[i][label] + (1 - b2) * mean
                denominator = math.sqrt(v[i][label] / (1 - b2**t)) + eps
                for j in inside:
                    m[i][j] = b1 * m[i][j] + (1 - b1) * g[i][j]
                    x[i][j] = x[i][j] * (1 - lr * weight_decay)
                    x[i][j] = x[i][j] - lr * (m[i][j] / (1 - b1**t)) / denominator
        snapshots.append(_copies(x))
    return snapshots


def mars(params, gradient, steps, *, lr, b1, b2, gamma, eps, weight_decay, adam_lr, adam_b1, adam_b2, adam_decay):
    """Yuan, Liu, Wu, Zhou, Gu, "MARS: Unleashing the Power of Variance Reduction for Training Large Models", 2024,
    algorithm 2 (MARS-AdamW) with the approximate correction, in which the previous gradient is that of the previous
    batch, and 0 at first; vectors by AdamW, as in the authors' code. eps is added to the corrected root.
    """
    x = _copies(params)
    m = _zeros(x)
    v = _zeros(x)
    previous = _zeros(x)
    snapshots = [_copies(x)]
    for t in range(1, steps + 1):
        g = _copies(gradient(_copies(x)))
        for i in range(len(x)):
            if x[i].ndim >= 2:
                c = g[i] + gamma * b1 / (1 - b1) * (g[i] - previous[i])
                length = math.sqrt(sum(float(value) ** 2 for value in np.ravel(c)))
                c = c / length if length > 1 else c
                rate, first, second, decay = lr, b1, b2, weight_decay
            else:
                c = g[i]
                rate, first, second, decay = adam_lr, adam_b1, adam_b2, adam_decay
            for j in np.ndindex(x[i].shape):
                m[i][j] = first * m[i][j] + (1 - first) * c[j]
                v[i][j] = second * v[i][j] + (1 - second) * c[j] ** 2
                step = (m[i][j] / (1 - first**t)) / (math.sqrt(v[i][j] / (1 - second**t)) + eps)
                x[i][j] = x[i][j] - rate * (step + decay * x[i][j])
        previous = g
        snapshots.append(_copies(x))
    return snapshots


def splus(params, gradient, steps, *, lr, b1, b2, eps, weight_decay, average_decay, interval, vector_scale):
    """Frans, Levine, Abbeel, "A Stable Whitening Optimizer for Efficient Neural Network Training", 2025, algorithm 1;
    the order of the operations as in the authors' PyTorch code (kvfrans/splus).

    The bases that are computed in a step act from the next one on, and those of the first step are identities. The
    average is taken of the points after the step and before its decay, and is divided by one minus the decay to the t.
    """
    x = _copies(params)
    m = _zeros(x)
    average = _zeros(x)
    left = [np.zeros((a.shape[0], a.shape[0])) if a.ndim == 2 else None for a in x]
    right = [np.zeros((a.shape[1], a.shape[1])) if a.ndim == 2 else None for a in x]
    basis_left = [np.eye(a.shape[0]) if a.ndim == 2 else None for a in x]
    basis_right = [np.eye(a.shape[1]) if a.ndim == 2 else None for a in x]
    snapshots = [_copies(x)]
    averages = [_copies(x)]
    for t in range(1, steps + 1):
        g = _copies(gradient(_copies(x)))
        for i in range(len(x)):
            m[i] = b1 * m[i] + (1 - b1) * g[i]
            if x[i].ndim == 2:
                rate = lr * 2 / (x[i].shape[0] + x[i].shape[1])
                signs = np.sign(basis_left[i].T @ m[i] @ basis_right[i])
                update = basis_left[i] @ signs @ basis_right[i].T
                left[i] = b2 * left[i] + (1 - b2) * g[i] @ g[i].T
                right[i] = b2 * right[i] + (1 - b2) * g[i].T @ g[i]
                if t == 1 or t % interval == 0:
                    basis_left[i] = np.linalg.eigh(left[i] + eps * np.eye(len(left[i])))[1]
                    basis_right[i] = np.linalg.eigh(right[i] + eps * np.eye(len(right[i])))[1]
            else:
                rate = lr * vector_scale
                update = np.sign(m[i])
            x[i] = x[i] - rate * update
            average[i] = average_decay * average[i] + (1 - average_decay) * x[i]
            x[i] = x[i] - rate * weight_decay * x[i]
        snapshots.append(_copies(x))
        averages.append([a / (1 - average_decay**t) for a in average])
    return snapshots, averages
