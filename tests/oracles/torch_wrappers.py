"""Trajectories of wrappers in packages of PyTorch, around its plain SGD with learning rate 1e-3, in float64.

Each function takes a problem and a number of steps, and returns the steps + 1 points, flattened.
"""

import contextlib
import copy

import numpy as np

from tests.oracles.problems import data, flat, loss, start

RATE = 1e-3
PACKAGES = {
    "sam": "pytorch-optimizer",
    "lookahead": "pytorch-optimizer",
    "grokfast": "pytorch-optimizer",
    "centralize": "pytorch-optimizer",
    "adaptive_clip": "pytorch-optimizer",
    "schedule_free": "schedulefree",
    "ema": "torch",
}


@contextlib.contextmanager
def _float64(problem):
    """Provide torch, the parameters and the loss as a function without arguments."""
    import torch

    torch.set_default_dtype(torch.float64)
    try:
        fn = loss(problem, torch, [torch.tensor(a) for a in data(problem)])
        params = [torch.nn.Parameter(torch.tensor(p)) for p in start(problem)]
        yield torch, params, lambda: fn(params)
    finally:
        torch.set_default_dtype(torch.float32)


def _now(params):
    return flat([p.detach().numpy().copy() for p in params])


def _slope(params, fn):
    for p in params:
        p.grad = None
    fn().backward()


def sam(problem, steps, *, rho, adaptive=False):
    """pytorch-optimizer's SAM; with `adaptive`, T = |w| for every tensor."""
    with _float64(problem) as (torch, params, fn):
        from pytorch_optimizer import SAM

        optimizer = SAM(params, torch.optim.SGD, rho=rho, adaptive=adaptive, lr=RATE)
        points = [_now(params)]
        for _ in range(steps):
            _slope(params, fn)
            optimizer.first_step(zero_grad=True)
            fn().backward()
            optimizer.second_step(zero_grad=True)
            points.append(_now(params))
        return np.stack(points)


def lookahead(problem, steps, *, k, alpha):
    """pytorch-optimizer's Lookahead."""
    with _float64(problem) as (torch, params, fn):
        from pytorch_optimizer import Lookahead

        optimizer = Lookahead(torch.optim.SGD(params, lr=RATE), k=k, alpha=alpha)
        points = [_now(params)]
        for _ in range(steps):
            _slope(params, fn)
            optimizer.step()
            points.append(_now(params))
        return np.stack(points)


def ema(problem, steps, *, decay):
    """torch's AveragedModel, updated before the first step, and after each."""
    with _float64(problem) as (torch, params, fn):
        from torch.optim import swa_utils

        model = torch.nn.ParameterList(params)
        averaged = swa_utils.AveragedModel(copy.deepcopy(model), multi_avg_fn=swa_utils.get_ema_multi_avg_fn(decay))
        averaged.update_parameters(model)
        optimizer = torch.optim.SGD(params, lr=RATE)
        points = [_now(averaged.module)]
        for _ in range(steps):
            _slope(params, fn)
            optimizer.step()
            averaged.update_parameters(model)
            points.append(_now(averaged.module))
        return np.stack(points)


def schedule_free(problem, steps, *, momentum):
    """The authors' ScheduleFreeWrapper."""
    with _float64(problem) as (torch, params, fn):
        from schedulefree import ScheduleFreeWrapper

        optimizer = ScheduleFreeWrapper(torch.optim.SGD(params, lr=RATE), momentum=momentum)
        optimizer.train()
        points = [_now(params)]
        for _ in range(steps):
            _slope(params, fn)
            optimizer.step()
            points.append(_now(params))
        return np.stack(points)


def _changed(problem, steps, change):
    """Plain SGD, after `change(params)` has changed their gradients."""
    with _float64(problem) as (torch, params, fn):
        optimizer = torch.optim.SGD(params, lr=RATE)
        points = [_now(params)]
        for _ in range(steps):
            _slope(params, fn)
            change(params)
            optimizer.step()
            points.append(_now(params))
        return np.stack(points)


def _as_torchs(tensor):
    """Return a kernel of shape (inputs, outputs) as PyTorch has it, outputs first."""
    return tensor.transpose(0, -1) if tensor.ndim > 1 else tensor


def centralize(problem, steps):
    """pytorch-optimizer's centralize_gradient, on transposed kernels."""

    def change(params):
        from pytorch_optimizer import centralize_gradient

        for p in params:
            gradient = _as_torchs(p.grad).contiguous()
            centralize_gradient(gradient, gc_conv_only=False)
            p.grad = _as_torchs(gradient).contiguous()

    return _changed(problem, steps, change)


def adaptive_clip(problem, steps, *, clipping, eps):
    """pytorch-optimizer's agc, on transposed kernels."""

    def change(params):
        from pytorch_optimizer import agc

        for p in params:
            clipped = agc(_as_torchs(p.detach()), _as_torchs(p.grad), eps, clipping)
            p.grad = _as_torchs(clipped).contiguous()

    return _changed(problem, steps, change)


def grokfast(problem, steps, *, alpha, lamb):
    """pytorch-optimizer's gradfilter_ema."""
    kept = None

    def change(params):
        nonlocal kept
        import torch
        from pytorch_optimizer.optimizer.grokfast import gradfilter_ema

        kept = gradfilter_ema(torch.nn.ParameterList(params), kept, alpha=alpha, lamb=lamb)

    return _changed(problem, steps, change)
