"""How the suite runs: with x64 enabled (what belongs to float32 asks for it by dtype), compiled quickly by default."""

import contextlib
import ctypes
import os

import chex
import jax
import pytest

from gdlab.sweeps import tiles
from gdlab.training import compilation

DEFAULT = "not slow and not oracle"
# Most of the suite's time is compilation, so the default selection asks LLVM for code that is ready soon instead of
# code that runs fast: a sixth less time. Other selections, and all runs with an XLA_FLAGS of their own, go without.
COMPILED_QUICKLY = "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"

os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # processes share a GPU's memory
jax.config.update("jax_enable_x64", True)


def pytest_configure(config):
    """JAX reads its flags when it first meets a device, which is later."""
    if config.getoption("markexpr") == DEFAULT:
        os.environ.setdefault("XLA_FLAGS", COMPILED_QUICKLY)


def pytest_terminal_summary(terminalreporter, config):
    """Say what the default selection leaves out."""
    if config.getoption("markexpr") == DEFAULT:
        terminalreporter.write_line(
            "Not selected: tests marked slow (pytest -m slow) and oracle (pytest -m oracle, with the extra `oracle`)."
        )


@pytest.fixture(autouse=True)
def _traces_are_counted_per_test():
    chex.clear_trace_counter()


def forget_programs():
    """Give back the memory of compiled programs; glibc would keep what they leave for this process."""
    tiles.PROGRAMS.clear()
    compilation.COMPILED.clear()
    compilation.TRACED.clear()
    jax.clear_caches()
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL("libc.so.6").malloc_trim(0)


@pytest.fixture(autouse=True, scope="module")
def _programs_are_forgotten_after_each_file():
    yield
    forget_programs()


@pytest.fixture
def programs_are_forgotten():
    """For tests that compile hundreds of megabytes."""
    yield
    forget_programs()
