"""Names that a configuration may give to a loss, an optimiser and a schedule; read without JAX.

The functions are in `losses.LOSSES`, `optimizers.OPTIMIZERS` and `schedules.SCHEDULES`.
"""

LOSSES = ("binary_cross_entropy", "log_loss_epsilon")
OPTIMIZERS = ("adam", "adam_cycled", "adamw", "keras_adadelta", "keras_adam", "radam")
SCHEDULES = ("constant", "cosine", "multi_step", "one_cycle")
