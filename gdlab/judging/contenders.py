"""Contenders: an optimizer by name or from a user's file, and the settings over which it is tuned."""

import hashlib
import inspect
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from gdlab.arguments import describe, first_line, require_callable, require_count, require_mapping, require_text
from gdlab.compute.programs import digest_jaxprs
from gdlab.diagnostics.collection import PROBLEMS
from gdlab.diagnostics.problem import Problem
from gdlab.diagnostics.run import begin_instance, take_steps
from gdlab.hyperparameters.factories import explained, given, optimizer_from
from gdlab.hyperparameters.ranges import Range, linear_range, log_range, sample_hyperparameters
from gdlab.optimizers import OPTIMIZERS
from gdlab.types import Factory

RATES = log_range(1e-6, 1e2)
"""The learning rates that are tried, where a contender states no ranges of its own."""


DIGESTED = ("layer_scales", "low_rank_factorization")
"""The problems whose traced programs identify an optimizer: one of vectors, and one of matrices."""


class Contender(NamedTuple):
    """An optimizer that is judged, or one that another is compared with.

    Attributes:
      name: what it is called.
      factory: the function that returns it. Weight decay, which moves solutions, is 0.
      ranges: for each argument that is tuned, its range; empty for an optimizer without a learning rate.
    """

    name: str
    factory: Factory
    ranges: dict[str, Range]

    def settings(self, count: int) -> list[dict[str, float]]:
        """Return the settings that are tried: an even grid of one range, a Sobol sequence of several, or the defaults.

        Args:
          count: how many.

        Returns:
          A list of mappings from arguments to numbers.
        """
        if not self.ranges:
            return [{}]
        if len(self.ranges) > 1:
            return sample_hyperparameters(self.ranges, count)
        (name, tried), *_ = self.ranges.items()
        return [{name: float(value)} for value in tried._replace(length=count).values()]


class Tried(NamedTuple):
    """The settings of a contender that its factory accepts.

    Attributes:
      settings: the accepted settings.
      refused: how many settings the factory refuses.
      reason: the first refusal, in one line; "" if there was none.
    """

    settings: list[dict[str, float]]
    refused: int
    reason: str


def known(name: str) -> Contender:
    """Return an optimizer of gdlab as a contender.

    Args:
      name: a name in `gdlab.OPTIMIZERS`.

    Returns:
      The `Contender`.

    Raises:
      KeyError: if there is no such optimizer.
    """
    require_text("name", name)
    return contender(name, OPTIMIZERS[name])


def contender(name: str, factory: Any, ranges: Mapping[str, Any] | None = None) -> Contender:
    """Return an optimizer as a contender, after checking that it can be one.

    Args:
      name: what it is called.
      factory: a function that returns an optax transformation, and whose arguments have defaults.
      ranges: for each argument that is tuned, a `log_range`, a `linear_range`, or a pair of numbers, which is a
        logarithmic range if both are positive. Default None: `learning_rate` from 1e-6 to 100, if the factory takes it.

    Returns:
      The `Contender`.

    Raises:
      TypeError: if the factory is a class, or does not return an optax transformation.
      ValueError: if an argument has neither a default nor a range, or a range is none of an argument.
    """
    require_text("name", name)
    _require_function(factory)
    takes = _arguments(factory)
    if ranges is None:
        found = {"learning_rate": RATES} if "learning_rate" in takes else {}
    else:
        require_mapping("ranges", ranges, "from arguments to ranges")
        found = {str(key): _as_range(f"ranges[{key!r}]", each) for key, each in ranges.items()}
    for key in found:
        if takes and key not in takes:
            raise ValueError(f"ranges: expected arguments of {name} ({', '.join(takes)}), got {key!r}")
    missing = [key for key, default in takes.items() if default is inspect.Parameter.empty and key not in found]
    missing = [key for key in missing if key != "total_steps"]
    if missing:
        raise ValueError(
            f"factory: expected defaults, or ranges in SPACE, for all arguments of {name}, got none for "
            f"{', '.join(missing)}"
        )
    return Contender(name, given(factory, weight_decay=0.0), found)


def completed(factory: Factory, ranges: Mapping[str, Range], steps: int) -> Factory:
    """Return a factory whose arguments all have defaults.

    Args:
      factory: the factory of a contender.
      ranges: the ranges of the contender; an argument without a default gets the middle of its range.
      steps: the default of `total_steps`, if it has none.

    Returns:
      The factory itself if all its arguments have defaults.
    """
    missing = [key for key, default in _arguments(factory).items() if default is inspect.Parameter.empty]
    middle = {key: float(ranges[key].at(np.array(0.5))) for key in missing if key in ranges}
    values = {"total_steps": steps} | middle
    return given(factory, **{key: values[key] for key in missing}) if missing else factory


def _require_function(factory: Any) -> None:
    expected = "a function that returns an optax transformation"
    if inspect.isclass(factory):
        if any(each.__module__.split(".")[0] == "torch" for each in inspect.getmro(factory)):
            raise TypeError(
                f"factory: expected {expected}, got {factory.__name__}, which is a torch.optim class: its steps change "
                "parameters in place, and must be written as a function of gradients and a state"
            )
        raise TypeError(f"factory: expected {expected}, got the class {factory.__name__}")
    if not callable(factory):
        raise TypeError(f"factory: expected {expected}, got {describe(factory)}")


def _arguments(factory: Callable[..., Any]) -> dict[str, Any]:
    """Return the defaults of the arguments by name; nothing for a factory that takes any."""
    try:
        parameters = inspect.signature(factory).parameters.values()
    except (TypeError, ValueError):  # some callables have no signature
        return {}
    named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    return {each.name: each.default for each in parameters if each.kind in named}


def _as_range(where: str, value: Any) -> Range:
    if isinstance(value, Range):
        value.require(where)
        return value
    pair = np.asarray(value, float) if isinstance(value, (tuple, list)) and len(value) == 2 else None
    if pair is None or not np.isfinite(pair).all() or not pair[0] < pair[1]:
        raise ValueError(f"{where}: expected a range, or a pair (low, high), got {describe(value)}")
    low, high = pair.tolist()
    return log_range(low, high) if low > 0 else linear_range(low, high)


def try_settings(one: Contender, count: int, steps: int) -> Tried:
    """Call a contender's factory at all settings, and return those that it accepts.

    Args:
      one: the contender.
      count: the number of settings.
      steps: the length of the runs, for factories with an argument `total_steps`.

    Returns:
      The settings that are `Tried`.

    Raises:
      TypeError: if the factory does not return an optax transformation.
      ValueError: if it refuses all settings.
      ImportError: if the factory needs a package that is not installed.
    """
    require_count("count", count)
    require_count("steps", steps)
    make = given(one.factory, total_steps=steps)
    accepted, reasons = [], []
    for setting in one.settings(count):
        try:
            optimizer_from(one.name, make, setting)
        except ImportError:
            raise
        except Exception as error:  # a factory of the user may raise anything
            if str(error).startswith("factory: "):
                raise
            reasons.append(first_line(error))
        else:
            accepted.append(setting)
    if not accepted:
        raise ValueError(f"factory: expected {one.name} to accept some of its settings, got {reasons[0]} at all")
    return Tried(accepted, len(reasons), reasons[0] if reasons else "")


def digest_contender(one: Contender) -> str:
    """Return a digest of what a contender computes, by which kept results are recognized.

    It covers the traced programs of two problems, in which the arguments that are tuned are variables, and the ranges.

    Args:
      one: the contender.

    Returns:
      A text of hexadecimal digits.

    Raises:
      ValueError: if the program calls back into Python, so that nobody can know what it computes.
    """
    require_callable("one", getattr(one, "factory", None))
    make = given(one.factory, total_steps=1000)
    middle = {key: np.float32(each.at(np.array(0.5))) for key, each in one.ranges.items()}

    def traced(problem: Problem) -> Any:
        begun = begin_instance(problem, problem.levels[0], jax.random.key(0))
        numbers = jax.tree.map(jnp.asarray, middle)
        return jax.make_jaxpr(lambda numbers, begun: take_steps(problem, make(**numbers), *begun))(numbers, begun)

    with jax.enable_x64(False), explained(one.name, list(middle)):
        digest = digest_jaxprs([traced(PROBLEMS[name]) for name in DIGESTED])
    if digest is None:
        raise ValueError(f"factory: expected {one.name} to be a pure function, got steps that call back into Python")
    return hashlib.sha256(f"{digest} {sorted(one.ranges.items())}".encode()).hexdigest()[:16]
