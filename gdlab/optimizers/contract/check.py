"""`check_contract`: all probes, one after the other."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax

from gdlab.arguments import require_callable, require_choice, require_count
from gdlab.optimizers.contract.case import Case, find_untraceable, make_case
from gdlab.optimizers.contract.finiteness import has_finite_derivatives, is_finite_in_bfloat16, survives_zeros
from gdlab.optimizers.contract.lanes import equals_solo_in_float32, equals_solo_in_float64
from gdlab.optimizers.contract.purity import is_pure
from gdlab.optimizers.contract.report import BrokenContractError, Check, ContractReport
from gdlab.optimizers.contract.schedules import follows_schedules
from gdlab.optimizers.contract.structure import ignores_order, keeps_dtypes, takes_any_tree
from gdlab.types import Factory

Probe = Callable[[Case], str]
"""`probe(case)`: what was seen, where the optimizer passes; raises `BrokenContractError` where it fails."""

PROBES: dict[str, Probe] = {
    "vmap = solo, float64": equals_solo_in_float64,
    "vmap = solo, float32": equals_solo_in_float32,
    "pure, one compilation, restorable": is_pure,
    "schedules of all numbers": follows_schedules,
    "derivatives are finite": has_finite_derivatives,
    "dtypes stay": keeps_dtypes,
    "bfloat16 stays finite": is_finite_in_bfloat16,
    "any tree of parameters": takes_any_tree,
    "order of leaves": ignores_order,
    "zeros give no NaN": survives_zeros,
}


def check_contract(
    factory: Factory, arguments: Mapping[str, Any] | None = None, *, steps: int = 20, skip: Sequence[str] = ()
) -> ContractReport:
    """Whether an optimizer is pure, traceable, stable in dtypes and finite, on a small tree of odd leaves.

    factory: `factory(**numbers)` returns an optax transformation whose `update(gradients, state, params)` needs nothing
        more. Each argument whose default is a number, or a tuple of numbers, is traced and varied, unless it is
        annotated int, bool or str, which declares it static.
    arguments: values for arguments without a default, and for those to be varied around another value than their
        default (None, say). A number here is varied; anything else is passed on as it is.
    steps: of each run, at least 4.
    skip: names of checks to leave out, as the report prints them; "order of leaves" for an optimizer that draws noise
        per leaf.

    What is checked: `update` gives the same twice, leaves its inputs alone and remembers nothing outside of its state;
    one compilation serves all steps; each hyperparameter at 5 values in one vmapped program equals 5 solo runs, to
    1e-12 in float64 and 1e-6 in float32, each with one compilation, and one of them at least changes something; Python
    numbers give what traced ones give; schedules that fall give what an optimizer rebuilt at every step gives, where
    the factory takes schedules (`gdlab.optimizers.transformation`); derivatives by parameters and hyperparameters
    through all steps are finite; structure and dtypes of the state stay, for bfloat16, float32 and float64 parameters,
    with Python and with traced float32 hyperparameters; lists, tuples, None and bare arrays serve as parameters; the
    state can be restored from a file, and an optimizer built anew continues from it with the same bits; the order of
    leaves does not matter; zero gradients at zero parameters give no NaN, nor do their derivatives. Whether the
    optimizer descends is not checked.

    A failed check is a line of the report, and so is an exception in one. It takes a few seconds, for compilations; its
    64-bit parts switch x64 on for themselves. Raises TypeError for a factory that cannot be called, or an argument
    without a value.

    >>> report = check_contract(gdlab.optimizers.adam)
    >>> assert report.ok, str(report)
    """
    require_callable("factory", factory)
    require_count("steps", steps, low=4)
    case = make_case(factory, arguments or {}, steps)
    for name in skip:
        require_choice("skip", name, tuple(PROBES))
    takes_schedules = getattr(factory, "takes_schedules", False)
    checks = tuple(
        _run_probe(name, probe, case)
        for name, probe in PROBES.items()
        if name not in skip and (takes_schedules or probe is not follows_schedules)
    )
    return ContractReport(getattr(factory, "__name__", "factory"), checks, tuple(case.numbers), case.static)


def _run_probe(name: str, probe: Probe, case: Case) -> Check:
    """The outcome of one probe; an exception in it is a failure."""
    try:
        with jax.enable_x64(True):
            return Check(name, True, probe(case))
    except BrokenContractError as broken:
        return Check(name, False, str(broken))
    except jax.errors.ConcretizationTypeError:
        names = ", ".join(find_untraceable(case)) or "a number"
        return Check(name, False, f"{names}: cannot be traced; annotate it int or bool if it is static")
    except Exception as error:
        first = (str(error).strip() or "no message").splitlines()[0]
        return Check(name, False, f"{type(error).__name__}: {first[:200]}")
