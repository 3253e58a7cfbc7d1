"""Problems for comparing trajectories: parameters, a loss for JAX and PyTorch, and a gradient derived by hand.

Parameters are lists of arrays. The data are random, but the same on every machine.
"""

import numpy as np

PROBLEMS = ("rosenbrock", "least_squares", "mlp")
"""The problems that all optimizers are compared on."""

LAYERS = "layers"
"""A network of the kind of "mlp" whose matrices are (3, 4) and (4, 3): no two axes of a matrix are alike."""

LOGISTIC = "logistic"
"""Four logistic regressions with a ridge penalty: convex, so that methods that use curvature amplify no rounding."""


def _random():
    return np.random.default_rng(20261122)


def data(problem):
    """Return the matrix and target of the least squares, the inputs and targets of the network, or nothing."""
    generator = _random()
    matrix, target = generator.normal(size=(12, 5)), generator.normal(size=12)
    inputs = generator.normal(size=(16, 3))
    expected = np.stack([np.sin(inputs[:, 0]) + inputs[:, 1], inputs[:, 0] * inputs[:, 2]], axis=1)
    wider = np.concatenate([expected, np.cos(inputs[:, 1:2] - inputs[:, 2:])], axis=1)
    labels = (wider @ np.ones((3, 4)) * np.arange(1, 5) > np.arange(4)) * 1.0
    networks = {LOGISTIC: (inputs, labels), "mlp": (inputs, expected), LAYERS: (inputs, wider)}
    return {"rosenbrock": (), "least_squares": (matrix, target), **networks}[problem]


def start(problem):
    """Return the initial parameters, in float64."""
    if problem == "rosenbrock":
        return [np.array([-1.2, 1.0])]
    generator = np.random.default_rng(3)
    if problem == "least_squares":
        return [generator.normal(size=5)]
    shapes = {
        LAYERS: [(3, 4), (4,), (4, 3), (3,)],
        LOGISTIC: [(3, 4), (4,)],
        "mlp": [(3, 3), (3,), (3, 2), (2,)],
    }[problem]
    return [generator.normal(size=shape) / np.sqrt(shape[0]) for shape in shapes]


def loss(problem, numpy_like, arrays):
    """Return `fn(params)` for JAX or PyTorch: `numpy_like` is the module, and `arrays` are the data as its arrays."""
    if problem == "rosenbrock":
        return lambda p: 100 * (p[0][1] - p[0][0] ** 2) ** 2 + (1 - p[0][0]) ** 2
    if problem == "least_squares":
        matrix, target = arrays
        return lambda p: 0.5 * ((matrix @ p[0] - target) ** 2).mean()
    inputs, expected = arrays
    if problem == LOGISTIC:

        def logistic(p):
            logits = inputs @ p[0] + p[1]
            loss = (numpy_like.log(1 + numpy_like.exp(logits)) - expected * logits).mean()
            return loss + 0.01 * (p[0] ** 2).sum() + 0.01 * (p[1] ** 2).sum()

        return logistic
    return lambda p: 0.5 * ((numpy_like.tanh(inputs @ p[0] + p[1]) @ p[2] + p[3] - expected) ** 2).mean()


def residuals(problem, numpy_like, arrays):
    """Return `fn(params)` for JAX or NumPy: the vector whose squared length is twice the loss."""
    if problem == "rosenbrock":
        return lambda p: numpy_like.stack([200**0.5 * (p[0][1] - p[0][0] ** 2), 2**0.5 * (1 - p[0][0])])
    if problem == "least_squares":
        matrix, target = arrays
        return lambda p: (matrix @ p[0] - target) / len(target) ** 0.5
    inputs, expected = arrays

    def errors(p):
        found = numpy_like.tanh(inputs @ p[0] + p[1]) @ p[2] + p[3] - expected
        return found.reshape(-1) / expected.size**0.5

    return errors


def gradient(problem):
    """Return `fn(params) -> gradients` in NumPy, derived by hand."""
    if problem == "rosenbrock":

        def slope(p):
            x, y = p[0]
            return [np.array([-400 * x * (y - x**2) - 2 * (1 - x), 200 * (y - x**2)])]

    elif problem == "least_squares":
        matrix, target = data(problem)

        def slope(p):
            return [matrix.T @ (matrix @ p[0] - target) / len(target)]

    elif problem == LOGISTIC:
        inputs, expected = data(problem)

        def slope(p):
            error = (1 / (1 + np.exp(-(inputs @ p[0] + p[1]))) - expected) / expected.size
            return [inputs.T @ error + 0.02 * p[0], error.sum(axis=0) + 0.02 * p[1]]

    else:
        inputs, expected = data(problem)

        def slope(p):
            hidden = np.tanh(inputs @ p[0] + p[1])
            error = (hidden @ p[2] + p[3] - expected) / expected.size
            inner = (error @ p[2].T) * (1 - hidden**2)
            return [inputs.T @ inner, inner.sum(axis=0), hidden.T @ error, error.sum(axis=0)]

    return slope


def flat(params):
    """Return all parameters as one vector."""
    return np.concatenate([np.ravel(p) for p in params])
