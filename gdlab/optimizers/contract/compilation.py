"""Compilation that is fast, and counted."""

from collections.abc import Callable
from typing import Any

import jax

from gdlab.optimizers.contract.report import BrokenContractError

# Compilation takes most of the time of a check, whose programs run for milliseconds. XLA's older emitters of loops take
# less than half of the time of those that it uses by default.
QUICK = {
    "xla_backend_optimization_level": 0,
    "xla_cpu_use_fusion_emitters": False,
    "xla_llvm_disable_expensive_passes": True,
}


def quick_jit(fn: Callable[..., Any]) -> Callable[..., Any]:
    """Apply `jax.jit` with as few compiler optimizations as possible."""
    return jax.jit(fn, compiler_options=QUICK)


class Counted:
    """A compiled function that counts how often JAX traces it, which is how often it is compiled."""

    def __init__(self, fn: Callable[..., Any]):
        self.traces = 0

        def counting(*arguments: Any) -> Any:
            self.traces += 1
            return fn(*arguments)

        self.compiled = quick_jit(counting)

    def __call__(self, *arguments: Any) -> Any:
        """Call the compiled function. A new shape or dtype compiles it again."""
        return self.compiled(*arguments)

    def require_one(self, what: str) -> None:
        """Raise unless the function was compiled exactly once."""
        if self.traces != 1:
            raise BrokenContractError(f"{what}: expected one compilation, got {self.traces}")
