"""The suite runs with x64 enabled (tests of float32 request that dtype), and with quick compilation."""

import contextlib
import ctypes
import os
import signal

import chex
import jax
import pytest

from gdlab.compute import fusion
from gdlab.scans import programs, traces
from gdlab.sweeps import driver, histories, tiles
from gdlab.training import compilation
from tests.browsing import browser, open_file  # noqa: F401 (fixtures)

DEFAULT = "not slow and not thorough and not oracle"
# Most of the suite's time is compilation. XLA's older emitters of loops take less than half of the time of those that
# it uses by default, so the tests have the older ones, except for the oracle tests, which compile as users do. The
# default selection and the thorough tests also ask LLVM for quick compilation instead of fast code, which halves the
# time once more. Runs with XLA_FLAGS of their own do without these flags, but all have those of gdlab.compute.fusion,
# which importing gdlab has set.
EMITTED_QUICKLY = "--xla_cpu_use_fusion_emitters=false"
COMPILED_QUICKLY = "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"

os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # processes share a GPU's memory
jax.config.update("jax_enable_x64", True)


def pytest_configure(config):
    """Set the flags of XLA, which JAX reads later, when it first uses a device."""
    flags = os.environ.get("XLA_FLAGS", "")
    if set(flags.split()) - set(fusion.FLAGS):
        return
    selected = config.getoption("markexpr")
    if selected != "oracle":
        flags += f" {EMITTED_QUICKLY}"
    if selected in (DEFAULT, "thorough"):
        flags += f" {COMPILED_QUICKLY}"
    os.environ["XLA_FLAGS"] = flags.strip()


def pytest_terminal_summary(terminalreporter, config):
    """Print what the default selection leaves out."""
    if config.getoption("markexpr") == DEFAULT:
        terminalreporter.write_line(
            "Not selected: tests marked thorough (pytest -m thorough), slow (pytest -m slow) and oracle (pytest -m "
            "oracle, with the extra `oracle`)."
        )


@pytest.fixture(autouse=True)
def _traces_are_counted_per_test():
    chex.clear_trace_counter()


@pytest.fixture(autouse=True)
def _interrupts_are_not_ignored():
    """A shell starts commands in the background with interrupts ignored, which they and their children inherit."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def forget_programs():
    """Free the memory of compiled programs, which glibc would otherwise keep for this process."""
    ours = traces.TRACES, programs.COMPILED, programs.PLACED
    for cache in (driver.TRACES, driver.COMPILED, histories.PROGRAMS, tiles.PROGRAMS, *ours):
        cache.clear()
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
    """For tests that compile hundreds of megabytes of programs."""
    yield
    forget_programs()
