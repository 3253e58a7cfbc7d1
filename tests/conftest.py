"""The suite runs with x64 enabled; what belongs to float32 asks for it by dtype. Processes share a GPU's memory."""

import os

import jax

os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # read when JAX first meets the device
jax.config.update("jax_enable_x64", True)

DEFAULT = "not slow and not oracle"


def pytest_terminal_summary(terminalreporter, config):
    """Say what the default selection leaves out."""
    if config.getoption("markexpr") == DEFAULT:
        terminalreporter.write_line(
            "Not selected: tests marked slow (pytest -m slow) and oracle (pytest -m oracle, with the extra `oracle`)."
        )
