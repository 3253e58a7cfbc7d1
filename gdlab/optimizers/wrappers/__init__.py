"""Wrappers: functions `wrapper(base, ...)` that make an optimizer of another one.

`gdlab.optimizers.WRAPPERS` maps their names to them. The result is an optax transformation that takes the place of
`base` anywhere, and that may be wrapped again. Every number may be traced or a schedule, as in `gdlab.optimizers`; base
is built before, so its numbers are its own. A wrapper passes on to base what `update` receives besides the gradient
(`gdlab.optimizers.protocol`).

- `sam`, `asam` and `grokfast`, `centralize`, `adaptive_clip`, `noisy` give base another gradient;
- `cautious`, `cautious_decay`, `orthogonalized`, `backtracking`, `polyak` change the step of base;
- `lookahead`, `ema_nesterov`, `schedule_free` change where the next step begins, and `ema` where to evaluate;
- `every_k` takes a step for several gradients, and `partitioned` has an optimizer for some leaves and one for others.
"""
