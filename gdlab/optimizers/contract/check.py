"""`check_contract`, which runs all probes one after the other."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax

from gdlab.arguments import require_callable, require_choice, require_count, require_mapping, require_sequence
from gdlab.compute.precision import exact_products
from gdlab.optimizers.contract.case import Case, find_untraceable, make_case
from gdlab.optimizers.contract.finiteness import has_finite_derivatives, is_finite_in_bfloat16, survives_zeros
from gdlab.optimizers.contract.lanes import equals_solo_in_float32, equals_solo_in_float64
from gdlab.optimizers.contract.purity import is_pure
from gdlab.optimizers.contract.report import BrokenContractError, Check, ContractReport
from gdlab.optimizers.contract.schedules import follows_schedules
from gdlab.optimizers.contract.structure import ignores_order, keeps_dtypes, takes_any_tree
from gdlab.types import Factory

Probe = Callable[[Case], str]
"""`probe(case)` returns a note on what was measured; it raises `BrokenContractError` if the optimizer fails."""

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
    """Check whether an optimizer is pure, traceable, stable in dtypes and finite, on a small tree of unusual leaves.

    The following properties are checked; whether the optimizer minimizes anything is not:

    - `update` returns the same result twice, does not modify its inputs and remembers nothing outside its state.
    - One compilation serves all steps.
    - A vmapped program with 5 values of each hyperparameter equals 5 solo runs, to 1e-12 in float64 and 1e-6 in
      float32, each with one compilation. At least one hyperparameter changes the result.
    - Python numbers give the same result as traced ones.
    - Decreasing schedules give the same result as an optimizer rebuilt at every step, if the factory accepts
      schedules (`gdlab.optimizers.transformation`).
    - Derivatives with respect to parameters and hyperparameters, through all steps, are finite.
    - The structure and the dtypes of the state do not change, for bfloat16, float32 and float64 parameters, with
      Python numbers and with traced float32 hyperparameters.
    - Lists, tuples, None and bare arrays are accepted as parameters.
    - The state can be restored from a file, and a newly built optimizer continues from it with identical bits.
    - The order of the leaves does not matter.
    - Zero gradients at zero parameters give no NaN, and neither do their derivatives.

    A failed check is a line of the report, and so is an exception during a check. The call takes a few seconds, spent
    on compilation. Its 64-bit parts enable x64 locally.

    Args:
      factory: `factory(**numbers)` returns an optax transformation that needs no more than
        `update(gradients, state, params)`. Each argument whose default is a number, or a tuple of numbers, is traced
        and varied, unless it is annotated int, bool or str, which declares it static.
      arguments: values for arguments without a default, and for arguments that should be varied around a value other
        than their default (None, for example). A number given here is varied; anything else is passed on unchanged.
      steps: the number of steps of each run, at least 4. Default 20.
      skip: names of checks to leave out, as the report prints them. Use "order of leaves" for an optimizer that draws
        noise for each leaf.

    Returns:
      A `ContractReport`, which prints as a table. Its `ok` tells whether every check passed.

    Raises:
      TypeError: if `factory` is not callable, if `arguments` has a name that the factory does not have, or if an
        argument has no value.
      ValueError: if `steps` is below 4, or if `skip` has an unknown name.

    Example:
      >>> report = check_contract(gdlab.optimizers.adam)
      >>> assert report.ok, str(report)
    """
    require_callable("factory", factory)
    require_count("steps", steps, low=4)
    if arguments is not None:
        require_mapping("arguments", arguments, "from arguments of the factory to values")
    require_sequence("skip", skip, "names of checks")
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


@exact_products
def _run_probe(name: str, probe: Probe, case: Case) -> Check:
    """Return the outcome of one probe, in which an exception counts as a failure."""
    try:
        with jax.enable_x64(True):
            return Check(name, True, probe(case))
    except BrokenContractError as broken:
        return Check(name, False, str(broken))
    except jax.errors.ConcretizationTypeError:
        names = ", ".join(find_untraceable(case)) or "a hyperparameter"
        return Check(name, False, f"{names}: cannot be traced; annotate it int or bool if it is static")
    except Exception as error:
        first = (str(error).strip() or "no message").splitlines()[0]
        return Check(name, False, f"{type(error).__name__}: {first[:200]}")
