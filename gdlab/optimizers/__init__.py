"""Optimizers as optax gradient transformations, each checked against an independent reference.

`OPTIMIZERS` maps names to factories. A factory is called as `name(learning_rate=default, *, ...)` and returns an
`optax.GradientTransformation`, which chains with everything in optax. The semantics are PyTorch's or those of the
method's authors. The following rules hold for all factories:

- Every numeric argument accepts a number, a traced scalar (to scan it, apply `jax.vmap` to a function that builds the
  optimizer) or a schedule `count -> number` with count from 0 (`gdlab.schedules`). Arguments annotated int or bool
  are static, because they determine the shape of the state or of the program. `learning_rate` is a number >= 0.
- A concrete number outside its range raises ValueError at construction. The message gives the value and the range.
- `weight_decay` is L2 regularization, added to the gradient before anything else, unless the docstring says that it
  is decoupled (subtracted from the parameters). Its default is 0, unless the authors of the method have another
  default.
- Updates have the parameters' dtypes and the state keeps its own dtypes, whatever the dtype of a traced
  hyperparameter. Arithmetic on 16-bit leaves is done in float32. Statistics of a whole model, and preconditioners,
  are stored in float32 or wider. Parameters are real; complex ones raise TypeError.
- `evaluation_params(state, params)` returns the parameters to evaluate at: an average, for optimizers that keep one.

The building blocks named `scale_by_...` return an update direction and chain with those of optax. `transformation`
makes any building block or factory accept schedules and keep dtypes. `check_contract` tests whether an optimizer
satisfies the rules that all of these satisfy. `one_of` combines several optimizers into one, with a traced number
that selects among them.
"""

from gdlab.optimizers.adabelief import adabelief, scale_by_adabelief
from gdlab.optimizers.adafactor import adafactor
from gdlab.optimizers.adagrad import adadelta, adagrad, rmsprop, scale_by_adagrad, scale_by_rms
from gdlab.optimizers.adam import adam, adamax, adamw, scale_by_adam
from gdlab.optimizers.adam_mini import adam_mini, scale_by_adam_mini
from gdlab.optimizers.adamuon import adamuon, scale_by_adamuon
from gdlab.optimizers.adan import adan, scale_by_adan
from gdlab.optimizers.ademamix import ademamix, scale_by_ademamix
from gdlab.optimizers.adopt import adopt, scale_by_adopt
from gdlab.optimizers.aggmo import aggmo, scale_by_aggmo
from gdlab.optimizers.amsgrad import amsgrad, scale_by_amsgrad
from gdlab.optimizers.apollo import apollo, scale_by_apollo
from gdlab.optimizers.averaged_sgd import asgd
from gdlab.optimizers.broyden import ssbroyden
from gdlab.optimizers.choice import one_of
from gdlab.optimizers.contract import ContractReport, check_contract
from gdlab.optimizers.demon import demon_adam, demon_sgdm, scale_by_demon_adam
from gdlab.optimizers.dion import dion, scale_by_dion
from gdlab.optimizers.evaluation import evaluation_params
from gdlab.optimizers.galore import galore, scale_by_galore
from gdlab.optimizers.gauss_newton import gauss_newton
from gdlab.optimizers.gradient_descent import momentum, nesterov, scale_by_momentum, sgd, sutskever_nesterov
from gdlab.optimizers.hyperball import adamh, hyperball, muonh
from gdlab.optimizers.kl_soap import kl_soap, scale_by_kl_soap
from gdlab.optimizers.layerwise import lamb, lars, novograd, scale_by_novograd, scale_by_trust_ratio
from gdlab.optimizers.lbfgs import lbfgs
from gdlab.optimizers.madgrad import madgrad
from gdlab.optimizers.mars import mars, scale_by_mars
from gdlab.optimizers.moonlight import moonlight
from gdlab.optimizers.muon import muon, scale_by_muon
from gdlab.optimizers.nadam import nadam, scale_by_nadam
from gdlab.optimizers.nadamw import nadamw, scale_by_nadamw
from gdlab.optimizers.newton_cg import newton_cg
from gdlab.optimizers.normuon import normuon, scale_by_normuon
from gdlab.optimizers.orthogonalization import orthogonalize
from gdlab.optimizers.parameter_free import dadapt_adam, prodigy
from gdlab.optimizers.psgd import psgd_kron, scale_by_psgd_kron
from gdlab.optimizers.quasi_hyperbolic import qhadam, qhm, scale_by_qhadam, scale_by_qhm
from gdlab.optimizers.radam import radam, scale_by_radam
from gdlab.optimizers.rprop import rprop
from gdlab.optimizers.schedule_free import schedule_free_adamw, schedule_free_sgd
from gdlab.optimizers.scion import scale_by_scion, scion
from gdlab.optimizers.shampoo import scale_by_shampoo, shampoo
from gdlab.optimizers.sign import lion, scale_by_signum, signum
from gdlab.optimizers.soap import scale_by_soap, soap
from gdlab.optimizers.soap_muon import scale_by_soap_muon, soap_muon
from gdlab.optimizers.sophia import hutchinson, scale_by_sophia, sophia
from gdlab.optimizers.splus import splus
from gdlab.optimizers.stable_adamw import scale_by_stable_adamw, stable_adamw
from gdlab.optimizers.transformation import stable_dtypes, transformation
from gdlab.optimizers.yellowfin import yellowfin
from gdlab.optimizers.yogi import scale_by_yogi, yogi
from gdlab.types import Factory, NameTable

_FACTORIES: tuple[Factory, ...] = (
    *(sgd, momentum, nesterov, sutskever_nesterov, asgd, rprop),
    *(adam, adamw, adamax, amsgrad, nadam, radam),
    *(adagrad, adadelta, rmsprop),
    *(qhm, qhadam, aggmo, yellowfin, demon_sgdm, demon_adam),
    *(adabelief, yogi, adan, adopt, ademamix, madgrad, adafactor),
    *(signum, lion, lamb, lars, novograd),
    *(muon, shampoo, soap, sophia),
    *(galore, apollo),
    *(lbfgs, ssbroyden, newton_cg, gauss_newton),
    *(nadamw, stable_adamw, adam_mini, mars, splus),
    *(moonlight, normuon, adamuon, scion, psgd_kron, muonh, adamh, soap_muon, kl_soap, dion),
    *(schedule_free_sgd, schedule_free_adamw, dadapt_adam, prodigy),
)

OPTIMIZERS: NameTable[Factory] = NameTable("optimizer", {factory.__name__: factory for factory in _FACTORIES})

__all__ = [
    "OPTIMIZERS",
    "ContractReport",
    "check_contract",
    "evaluation_params",
    "hutchinson",
    "hyperball",
    "one_of",
    "orthogonalize",
    "scale_by_adabelief",
    "scale_by_adagrad",
    "scale_by_adam",
    "scale_by_adam_mini",
    "scale_by_adamuon",
    "scale_by_adan",
    "scale_by_ademamix",
    "scale_by_adopt",
    "scale_by_aggmo",
    "scale_by_amsgrad",
    "scale_by_apollo",
    "scale_by_demon_adam",
    "scale_by_dion",
    "scale_by_galore",
    "scale_by_kl_soap",
    "scale_by_mars",
    "scale_by_momentum",
    "scale_by_muon",
    "scale_by_nadam",
    "scale_by_nadamw",
    "scale_by_normuon",
    "scale_by_novograd",
    "scale_by_psgd_kron",
    "scale_by_qhadam",
    "scale_by_qhm",
    "scale_by_radam",
    "scale_by_rms",
    "scale_by_scion",
    "scale_by_shampoo",
    "scale_by_signum",
    "scale_by_soap",
    "scale_by_soap_muon",
    "scale_by_sophia",
    "scale_by_stable_adamw",
    "scale_by_trust_ratio",
    "scale_by_yogi",
    "stable_dtypes",
    "transformation",
    *sorted(factory.__name__ for factory in _FACTORIES),
]
