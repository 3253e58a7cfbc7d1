"""Gradient descent: plain, with heavy-ball momentum, and with Nesterov's momentum in two forms.

The two forms of Nesterov's momentum are PyTorch's and Sutskever's.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int, PyTree

from gdlab.arguments import require_number
from gdlab.optimizers.transformation import (
    add_l2,
    require_fractions,
    require_non_negative,
    transformation,
)
from gdlab.optimizers.trees import statistic, zeros
from gdlab.types import Hyperparameter


class MomentumState(NamedTuple):
    """State of heavy-ball momentum.

    Attributes:
      steps: number of completed steps.
      velocity: the velocity v, shaped like the parameters.
    """

    steps: Int[Array, ""]
    velocity: PyTree


@transformation
def scale_by_momentum(momentum: Hyperparameter, dampening: Hyperparameter = 0.0) -> optax.GradientTransformation:
    """Accumulate gradients in a velocity: v <- momentum v + (1 - dampening) g.

    The output is v.

    Args:
      momentum: the decay of the velocity, in [0, 1).
      dampening: the share by which new gradients are reduced, in [0, 1]. As in PyTorch, it has no effect at the
        first step, nor where momentum is 0. Default 0.
    """
    require_fractions(momentum=momentum)
    require_number("dampening", dampening, 0.0, 1.0)

    def init(params: optax.Params) -> MomentumState:
        return MomentumState(jnp.zeros([], jnp.int32), jax.tree.map(jnp.zeros_like, params))

    def update(
        updates: optax.Updates, state: MomentumState, params: optax.Params | None = None
    ) -> tuple[optax.Updates, MomentumState]:
        del params
        undampened = (state.steps == 0) | (jnp.asarray(momentum) == 0)
        kept = jnp.where(undampened, 1, 1 - dampening)
        velocity = jax.tree.map(lambda g, v: momentum * v + kept.astype(g.dtype) * g, updates, state.velocity)
        return velocity, MomentumState(optax.safe_increment(state.steps), velocity)

    return optax.GradientTransformation(init, update)


@transformation
def sgd(learning_rate: Hyperparameter = 1e-3, *, weight_decay: Hyperparameter = 0.0) -> optax.GradientTransformation:
    """Gradient descent: x <- x - learning_rate (g + weight_decay x).

    Every coordinate takes a step along its own gradient with the same step size, and no state is kept: the simplest
    method, and the baseline for all others.

    Args:
      learning_rate: the step size, a number or a schedule. Default 1e-3, PyTorch's.
      weight_decay: L2 regularization, added to the gradient before anything else. Default 0.

    State:
      None.

    Example:
      >>> optimizer = sgd(cosine(0.1, 1000))
      >>> updates, state = optimizer.update(grads, optimizer.init(params), params)

    Equivalent to `torch.optim.SGD(lr, momentum=0)` and to `optax.sgd`, which has no weight_decay.

    References:
      Cauchy, "Méthode générale pour la résolution des systèmes d'équations simultanées", 1847. Discussed in Lemaréchal,
        "Cauchy and the Gradient Method", 2012
        (https://www.math.uni-bielefeld.de/documenta/vol-ismp/40_lemarechal-claude.pdf).
    """
    require_non_negative(learning_rate=learning_rate, weight_decay=weight_decay)
    return optax.chain(add_l2(weight_decay), optax.scale_by_learning_rate(learning_rate))


@transformation
def momentum(
    learning_rate: Hyperparameter = 1e-3,
    *,
    momentum: Hyperparameter = 0.9,
    dampening: Hyperparameter = 0.0,
    weight_decay: Hyperparameter = 0.0,
) -> optax.GradientTransformation:
    """Heavy ball: v <- momentum v + (1 - dampening) g; x <- x - learning_rate v.

    The velocity adds up gradients that agree and cancels those that alternate, which speeds up progress along
    narrow valleys: the usual choice for convolutional networks.

    Args:
      learning_rate: the step size, a number or a schedule. Default 1e-3, PyTorch's.
      momentum: the decay of the velocity, in [0, 1). Default 0.9; PyTorch's is 0, which turns it off.
      dampening: the share by which new gradients are reduced, in [0, 1]. Default 0, PyTorch's.
      weight_decay: L2 regularization, added to the gradient before anything else. Default 0.

    State:
      v, one value per parameter.

    Example:
      >>> optimizer = momentum(0.1, momentum=0.95)
      >>> updates, state = optimizer.update(grads, optimizer.init(params), params)

    Equivalent to `torch.optim.SGD(lr, momentum, dampening, weight_decay)`: at the first step, and with momentum 0,
    v = g whatever the dampening. The classical form, v <- momentum v + learning_rate g and x <- x - v, visits the
    same points as long as the learning rate is constant. `optax.sgd` has neither dampening nor weight_decay.

    References:
      Polyak, "Some Methods of Speeding up the Convergence of Iteration Methods", 1964
        (https://doi.org/10.1016/0041-5553(64)90137-5).
    """
    require_non_negative(learning_rate=learning_rate, weight_decay=weight_decay)
    return optax.chain(
        add_l2(weight_decay),
        scale_by_momentum(momentum, dampening),
        optax.scale_by_learning_rate(learning_rate),
    )


@transformation
def nesterov(
    learning_rate: Hyperparameter = 1e-3,
    *,
    momentum: Hyperparameter = 0.9,
    weight_decay: Hyperparameter = 0.0,
) -> optax.GradientTransformation:
    """Nesterov's momentum: v <- momentum v + g; x <- x - learning_rate (g + momentum v).

    The step applies the momentum once more to the new velocity and so looks ahead, which damps the oscillations of
    heavy ball at the same momentum.

    Args:
      learning_rate: the step size, a number or a schedule. Default 1e-3, PyTorch's.
      momentum: the decay of the velocity, in [0, 1). Default 0.9; PyTorch's is 0, which turns it off.
      weight_decay: L2 regularization, added to the gradient before anything else. Default 0.

    State:
      v, one value per parameter.

    Example:
      >>> optimizer = nesterov(0.1, momentum=0.95)
      >>> updates, state = optimizer.update(grads, optimizer.init(params), params)

    Equivalent to `torch.optim.SGD(lr, momentum, nesterov=True)` and to `optax.sgd(nesterov=True)`. As long as
    momentum and learning rate are constant, x is the look-ahead point of Sutskever's form (`sutskever_nesterov`).

    References:
      Nesterov, "A Method for Solving the Convex Programming Problem with Convergence Rate O(1/k^2)", 1983.
      Sutskever, Martens, Dahl and Hinton, "On the Importance of Initialization and Momentum in Deep Learning", 2013
      (https://proceedings.mlr.press/v28/sutskever13.html).
    """
    require_fractions(momentum=momentum)
    require_non_negative(learning_rate=learning_rate, weight_decay=weight_decay)
    return optax.chain(
        add_l2(weight_decay),
        optax.trace(momentum, nesterov=True),
        optax.scale_by_learning_rate(learning_rate),
    )


class SutskeverState(NamedTuple):
    """State of Nesterov's momentum in Sutskever's form.

    Attributes:
      velocity: the velocity v, shaped like the parameters.
      lookahead: the momentum with which the parameters look ahead of the iterate.
    """

    velocity: PyTree
    lookahead: Float[Array, ""]

    def evaluation_params(self, params: optax.Params) -> optax.Params:
        """Return the iterate x; the parameters are its look-ahead point x + momentum v."""
        return jax.tree.map(lambda y, v: (y - self.lookahead * v).astype(y.dtype), params, self.velocity)


@transformation
def sutskever_nesterov(
    learning_rate: Hyperparameter = 1e-3,
    *,
    momentum: Hyperparameter = 0.9,
    weight_decay: Hyperparameter = 0.0,
) -> optax.GradientTransformation:
    """Nesterov's momentum, Sutskever's form: v <- momentum v - learning_rate g(x + momentum v); x <- x + v.

    The parameters hold y = x + momentum v, where the gradient is taken, and
    `gdlab.optimizers.evaluation_params(state, params)` returns the iterate x. The gradient is taken where the
    momentum is about to lead, which damps the oscillations of heavy ball; choose this form over `nesterov` to
    reproduce results that were obtained with it.

    Args:
      learning_rate: the step size, a number or a schedule. Default 1e-3, PyTorch's for SGD.
      momentum: the decay of the velocity, in [0, 1). Default 0.9.
      weight_decay: L2 regularization, taken at y and added to the gradient before anything else. Default 0.

    State:
      v, one value per parameter.

    Example:
      >>> optimizer = sutskever_nesterov(0.1, momentum=0.95)
      >>> updates, state = optimizer.update(grads, optimizer.init(params), params)

    As long as learning rate and momentum are constant, y visits the points of `nesterov`. When they change the two
    methods differ, because v keeps the learning rates that its gradients were multiplied by. Under a schedule of
    the momentum, y looks ahead with the momentum of the step that produced it.

    References:
      Sutskever, Martens, Dahl and Hinton, "On the Importance of Initialization and Momentum in Deep Learning",
      2013, equations 3 and 4 (https://proceedings.mlr.press/v28/sutskever13.html).
    """
    require_fractions(momentum=momentum)
    require_non_negative(learning_rate=learning_rate, weight_decay=weight_decay)

    def init(params: optax.Params) -> SutskeverState:
        return SutskeverState(zeros(params), statistic(params))

    def update(
        updates: optax.Updates, state: SutskeverState, params: optax.Params | None = None
    ) -> tuple[optax.Updates, SutskeverState]:
        del params
        velocity = jax.tree.map(lambda g, v: momentum * v - learning_rate * g, updates, state.velocity)
        moves = jax.tree.map(lambda new, v: (1 + momentum) * new - state.lookahead * v, velocity, state.velocity)
        return moves, SutskeverState(velocity, jnp.asarray(momentum))

    return optax.chain(add_l2(weight_decay), optax.GradientTransformation(init, update))
