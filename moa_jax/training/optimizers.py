"""Optimisers of the originals, built from optax."""

from __future__ import annotations

import optax

from moa_jax.training.schedules import Schedule


def adam(
    rate: Schedule,
    beta1: Schedule,
    weight_decay: float = 0.0,
    beta2: float = 0.999,
    epsilon: float = 1e-8,
) -> optax.GradientTransformation:
    """Returns Adam with a scheduled beta 1 and coupled L2, as `torch.optim.Adam` has it.

    The decay enters the gradient before the moments, on every parameter; this is not AdamW. The
    bias correction uses the current beta 1.

    Args:
      rate: learning rate as a function of the 0-based step.
      beta1: decay of the first moment as a function of the step.
      weight_decay: factor on the parameters that is added to the gradients.
      beta2: decay of the second moment.
      epsilon: added to the root of the corrected second moment.
    """
    scale_by_adam = optax.inject_hyperparams(
        optax.scale_by_adam, static_args=("b2", "eps", "eps_root", "mu_dtype", "nesterov")
    )
    return optax.chain(
        optax.add_decayed_weights(weight_decay),
        scale_by_adam(b1=beta1, b2=beta2, eps=epsilon),
        optax.scale_by_learning_rate(rate),
    )
