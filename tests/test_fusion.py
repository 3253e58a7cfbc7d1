"""`gdlab.compute.fusion`: the flags that importing gdlab sets, and whether XLA follows them."""

import os
import subprocess
import sys

import jax
import jaxlib.version
import pytest

from gdlab.compute import fusion

needs_known_version = pytest.mark.skipif(
    not jaxlib.version.__version__.startswith(fusion.VERSIONS), reason="this version of jaxlib is not known"
)


@pytest.fixture
def not_started(monkeypatch):
    monkeypatch.setattr(fusion, "_has_started", lambda: False)


@needs_known_version
@pytest.mark.parametrize("before", ["", "--xla_force_host_platform_device_count=2"])
def test_the_flag_joins_those_of_the_user(not_started, before):
    environment = {"XLA_FLAGS": before} if before else {}
    assert fusion.request(environment)
    assert environment == {"XLA_FLAGS": " ".join([before, *fusion.FLAGS]).strip()}
    assert not fusion.request(environment)  # it is there already


@pytest.mark.parametrize(
    "environment",
    [
        {fusion.SWITCH: "0"},
        {"XLA_FLAGS": "--xla_backend_extra_options=xla_cpu_optimize_for_size"},
        {"XLA_FLAGS": "--xla_disable_hlo_passes=fusion"},
    ],
)
def test_the_user_decides(not_started, environment):
    before = dict(environment)
    assert not fusion.request(environment)
    assert environment == before
    assert fusion.options(0, "cpu", environment) == {}


def test_programs_ask_for_the_fusion_unless_it_may_end_the_process():
    environment = {"XLA_FLAGS": " ".join(fusion.FLAGS)}
    assert fusion.options(1, "cpu", environment) == {"xla_disable_hlo_passes": ""}
    assert fusion.options(2, "cpu", environment) == fusion.options(0, "gpu", environment) == {}


def test_nothing_is_set_for_unknown_versions_or_after_the_start(not_started, monkeypatch):
    monkeypatch.setattr(jaxlib.version, "__version__", "9.9.9")
    assert not fusion.request({})
    monkeypatch.undo()
    assert fusion.in_force() in (True, False)  # this starts a backend
    assert fusion._has_started()
    assert not fusion.request({})


def test_without_a_cpu_backend_the_fusion_is_not_in_force(monkeypatch):
    def fails(**_):
        raise RuntimeError("Unknown backend cpu")

    monkeypatch.setattr(jax, "local_devices", fails)
    assert fusion.in_force.__wrapped__() is False


@needs_known_version
@pytest.mark.slow
@pytest.mark.parametrize("first", ["", "import jax; jax.devices(); "])
@pytest.mark.parametrize("switch", ["0", "1"])
def test_xla_follows_the_flag_unless_it_has_started(first, switch):
    code = (
        f"{first}import gdlab; from gdlab.compute import fusion; print(fusion.in_force()); import jax; "
        "print(jax.jit(lambda x: (x + 1, x * x)).lower(jax.numpy.ones(512)).compile().as_text().count(' fusion('))"
    )
    environment = {**os.environ, fusion.SWITCH: switch, "JAX_PLATFORMS": "cpu"}
    environment.pop("XLA_FLAGS", None)
    out = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert out.stdout.split() == [str(switch == "1" and not first), "2"]  # programs of the user stay what they are


@pytest.mark.slow
def test_a_users_program_that_the_fusion_would_abort_runs():
    """Two scatters of matrices at an index of each lane, which XLA of jaxlib 0.10 cannot merge."""
    code = """
import gdlab, jax, jax.numpy as jnp
def write(m, n, v, u, i):
    return m.at[i].set(v), n.at[i].set(u)
zeros, ones = jnp.zeros((4, 3, 2)), jnp.ones((4, 2))
m, n = jax.jit(jax.vmap(write))(zeros, zeros, ones, 2 * ones, jnp.array([0, 1, 2, 0]))
print(int(m.sum()), int(n.sum()))
"""
    environment = {**os.environ, fusion.SWITCH: "1", "JAX_PLATFORMS": "cpu"}
    environment.pop("XLA_FLAGS", None)
    out = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert out.stdout.split() == ["8", "16"]
