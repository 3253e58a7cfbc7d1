"""The command line, as a user types it."""

import re
import subprocess
import sys

import pytest

from gdlab import FUNCTIONS, OPTIMIZERS
from gdlab.cli import main
from gdlab.optimizers import WRAPPERS
from gdlab.tasks import TASKS


def run_command(patch, capsys, *words):
    """Run `gdlab WORDS` in this process; returns what it prints and its exit status."""
    patch.setattr(sys, "argv", ["gdlab", *words])
    try:
        main()
        status = 0
    except SystemExit as error:
        status = error.code
    return capsys.readouterr().out, status


@pytest.fixture
def gdlab(monkeypatch, capsys):
    """Run the command; returns what it prints and its exit status, which is a text where it failed."""

    def run(*words, columns=80):
        monkeypatch.setenv("COLUMNS", str(columns))
        return run_command(monkeypatch, capsys, *words)

    return run


def test_help_needs_no_jax():
    code = """
import sys
from gdlab.cli import main
sys.argv = ["gdlab", "--help"]
try:
    main()
except SystemExit as error:
    assert not error.code
assert not {"jax", "numpy", "optax"} & set(sys.modules)
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert result.returncode == 0, result.stderr
    for command in ("list", "show", "explore", "check", "judge", "data"):
        assert command in result.stdout
    module = subprocess.run([sys.executable, "-m", "gdlab", "--help"], capture_output=True, text=True, check=True)
    assert module.stdout == result.stdout


@pytest.mark.parametrize(
    ("kind", "names"),
    [("optimizers", OPTIMIZERS), ("wrappers", WRAPPERS), ("functions", FUNCTIONS), ("tasks", TASKS)],
)
def test_lists_have_one_line_each_that_fits(gdlab, kind, names):
    out, status = gdlab("list", kind)
    lines = out.splitlines()
    assert status == 0
    assert [line.split()[0] for line in lines] == list(names)
    assert max(map(len, lines)) <= 80
    assert all(len(line.split()) > 1 for line in lines)


def test_experiments_and_data_are_listed(gdlab):
    out, _ = gdlab("list", "experiments")
    assert "ackley_descent.py" in out
    assert max(map(len, out.splitlines())) <= 80
    assert max(map(len, gdlab("show", "ackley")[0].splitlines())) <= 80
    out, _ = gdlab("list", "data")
    assert "digits" in out
    assert "cifar10" in out


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_the_page_of_an_optimizer_says_all(gdlab, name):
    out, status = gdlab("show", name)
    assert status == 0
    assert out.startswith(f"gdlab.optimizers.{name}(\n    learning_rate")
    for section in ("Args:", "State:", "Example:", "References:", "Largest relative deviation"):
        assert section in out, section
    assert re.search(r"  \S.*: \d\.\de[+-]\d\d", out), f"{name}: run python -m benchmarks.oracle_deviation"


@pytest.mark.parametrize("name", WRAPPERS)
def test_the_page_of_a_wrapper_says_all(gdlab, name):
    out, status = gdlab("show", name)
    assert status == 0
    assert out.startswith(f"gdlab.optimizers.{name}(\n    base")
    for section in ("Args:", "State:", "Example:", "References:", "Largest relative deviation"):
        assert section in out, section
    assert re.search(r"  \S.*: \d\.\de[+-]\d\d", out), f"{name}: run python -m benchmarks.wrapper_deviation"


def test_the_pages_of_a_function_and_a_task(gdlab):
    out, _ = gdlab("show", "himmelblau")
    for fact in ("Dimensions: 2", "[-5, 5]^2", "Minimum: 0", "(3, 2)", "Source: Himmelblau"):
        assert fact in out
    out, _ = gdlab("show", "digits_mlp")
    assert out.startswith("gdlab.tasks.digits_mlp(")


def test_an_unknown_name_offers_the_nearest(gdlab):
    _, status = gdlab("show", "adm")
    assert "got 'adm'; nearest: adam" in status
    _, status = gdlab("show", "zzz")
    assert "see gdlab list" in status


GOOD = "from gdlab.optimizers import sgd\n"
BAD = """
import jax
import optax

def forgetful(learning_rate=0.1):
    seen = []

    def update(grads, state, params=None):
        seen.append(1)
        return jax.tree.map(lambda g: -learning_rate * g * len(seen), grads), state

    return optax.GradientTransformation(lambda params: (), update)
"""


def test_a_factory_of_a_users_file_is_checked(gdlab, tmp_path):
    (tmp_path / "mine.py").write_text(BAD)
    out, status = gdlab("check", f"{tmp_path}/mine.py:forgetful", "--steps", "4")
    assert status == 1
    assert "forgetful: BREAKS the contract" in out


@pytest.mark.thorough
def test_a_factory_that_keeps_the_contract_ends_with_status_0(gdlab, tmp_path):
    (tmp_path / "good.py").write_text(GOOD)
    out, status = gdlab("check", f"{tmp_path}/good.py:sgd")
    assert (status, "sgd: keeps the contract" in out) == (0, True)


def test_targets_that_cannot_be_checked_are_one_line(gdlab, tmp_path):
    (tmp_path / "mine.py").write_text("def one():\n    pass\n")
    (tmp_path / "wrong.py").write_text("\nx = {}['alpha']\n")
    (tmp_path / "syntax.py").write_text("def one(:\n")
    (tmp_path / "leaves.py").write_text("import sys\nsys.exit(5)\n")
    (tmp_path / "bytes.py").write_bytes(b"\0\xff")
    (tmp_path / "folder.py").mkdir()
    for target, answer in (
        ("mine.py", "gdlab: target: expected FILE.py:FACTORY, got 'mine.py'"),
        (f"{tmp_path}/none.py:adam", "expected a file, got .*none.py, which does not exist"),
        (f"{tmp_path}/wrong.py:one", r"wrong.py:2: KeyError: 'alpha'"),
        (f"{tmp_path}/syntax.py:one", r"syntax.py:1: SyntaxError"),
        (f"{tmp_path}/leaves.py:one", r"leaves.py:2: SystemExit: 5"),
        (f"{tmp_path}/bytes.py:one", r"bytes.py: SyntaxError: "),
        (f"{tmp_path}/folder.py:one", "expected a file, got .*folder.py, which is a folder"),
        (f"{tmp_path}/mine.py:two", r"expected a function of .*mine.py \(one\), got two"),
    ):
        _, status = gdlab("check", target)
        assert re.search(answer, status), status
        assert "\n" not in status
