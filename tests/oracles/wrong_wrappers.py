"""Wrong published implementations of wrappers in NumPy, which the comparison with the right ones must notice.

Each takes what the reference of the same wrapper in `numpy_wrappers.py` takes, and returns the points.
"""

from functools import partial

import numpy as np

from tests.oracles import numpy_wrappers


def per_tensor_sam(params, gradient, steps, base, *, rho):
    """The radius holds for each tensor, rather than for all parameters together."""
    x, points = list(params), [list(params)]
    for _ in range(steps):
        above = [p + rho * g / np.linalg.norm(g) for p, g in zip(x, gradient(x), strict=True)]
        x = [p + u for p, u in zip(x, base(x, gradient(above)), strict=True)]
        points.append(x)
    return points


def squared_without_norm(params, gradient, steps, base, *, rho, eta, least_axes):
    """heavyball's SAMWrapper: e = 0.1 w^2 g."""
    x, points = list(params), [list(params)]
    for _ in range(steps):
        above = [p + 0.1 * p**2 * g for p, g in zip(x, gradient(x), strict=True)]
        x = [p + u for p, u in zip(x, base(x, gradient(above)), strict=True)]
        points.append(x)
    return points


def early_lookahead(params, gradient, steps, base, *, k, alpha, first=1):
    """lookahead.pytorch: the first return is after step 1, to the slow weights that are set to x then."""
    x, slow, points = list(params), None, [list(params)]
    for t in range(1, steps + 1):
        x = [p + u for p, u in zip(x, base(x, gradient(x)), strict=True)]
        if t >= first and (t - first) % k == 0:
            slow = x if slow is None else [s + alpha * (p - s) for s, p in zip(slow, x, strict=True)]
            x = list(slow)
        points.append(x)
    return points


def late_lookahead(params, gradient, steps, base, *, k, alpha):
    """timm: the slow weights are set to x at the first return, which therefore does nothing."""
    return early_lookahead(params, gradient, steps, base, k=k, alpha=alpha, first=k)


def always_cautious(params, gradient, steps, base, *, floor):
    """The second branch of c_adamw.py: the mask is m m > 0, which is always true."""
    x, points = list(params), [list(params)]
    for _ in range(steps):
        x = [p + u for p, u in zip(x, base(x, gradient(x)), strict=True)]
        points.append(x)
    return points


def scaled_by_one_more(params, gradient, steps, base, *, floor):
    """The scale of the paper's text, number / (number that move + 1), which shrinks the step of small leaves."""
    x, points = list(params), [list(params)]
    for _ in range(steps):
        g = gradient(x)
        masks = [(u * a < 0, u) for u, a in zip(base(x, g), g, strict=True)]
        x = [p + u * kept * kept.size / (kept.sum() + 1) for p, (kept, u) in zip(x, masks, strict=True)]
        points.append(x)
    return points


def on_transposed(reference, params, gradient, steps, base, **arguments):
    """The axes of PyTorch's kernels on those of JAX, as in optax.centralize: inputs are taken for outputs."""
    points = reference(
        [p.T for p in params], lambda x: [g.T for g in gradient([p.T for p in x])], steps, base, **arguments
    )
    return [[p.T for p in point] for point in points]


def whole_tensor_clip(params, gradient, steps, base, *, clipping, eps):
    """heavyball: one norm for a whole tensor."""
    x, points = list(params), [list(params)]
    for _ in range(steps):
        g = gradient(x)
        limits = [clipping * max(np.linalg.norm(p), eps) / np.linalg.norm(a) for p, a in zip(x, g, strict=True)]
        x = [p + u for p, u in zip(x, base(x, [a * min(1, c) for a, c in zip(g, limits, strict=True)]), strict=True)]
        points.append(x)
    return points


def grokfast_from_zero(params, gradient, steps, base, *, decay, factor):
    """The average begins at 0 instead of at the first gradient."""
    x, points, h = list(params), [list(params)], [0 * p for p in params]
    for _ in range(steps):
        g = gradient(x)
        h = [decay * a + (1 - decay) * b for a, b in zip(h, g, strict=True)]
        x = [p + u for p, u in zip(x, base(x, [a + factor * b for a, b in zip(g, h, strict=True)]), strict=True)]
        points.append(x)
    return points


def decayed_at_z(params, gradient, steps, base, *, momentum, rates, r, power):
    """The base sees z as the parameters, as in the authors' ScheduleFreeWrapper: its weight decay acts there."""
    x, z, points = list(params), list(params), [list(params)]
    for t in range(1, steps + 1):
        y = [(1 - momentum) * b + momentum * a for a, b in zip(x, z, strict=True)]
        z = [b + u for b, u in zip(z, base(z, gradient(y)), strict=True)]
        x = [a + (b - a) / t for a, b in zip(x, z, strict=True)]
        points.append([(1 - momentum) * b + momentum * a for a, b in zip(x, z, strict=True)])
    return points


WRONG = {
    "sam": [per_tensor_sam],
    "asam": [squared_without_norm],
    "lookahead": [early_lookahead, late_lookahead],
    "cautious": [always_cautious, scaled_by_one_more],
    "centralize": [partial(on_transposed, numpy_wrappers.centralize)],
    "adaptive_clip": [partial(on_transposed, numpy_wrappers.adaptive_clip), whole_tensor_clip],
    "grokfast": [grokfast_from_zero],
    "orthogonalized": [partial(on_transposed, numpy_wrappers.orthogonalized)],
    "schedule_free": [decayed_at_z],
}
