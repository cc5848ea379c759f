"""Fields that are given and not read: refused, or told where only the mode does not read them."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from moa_jax.config import DataConfig, RunConfig, flat, plain
from moa_jax.errors import UserError

# With which values of another field of its section a field is read; None for all but 0 and false.
READ_WITH: Mapping[str, tuple[str, tuple | None]] = {
    **dict.fromkeys(
        ("rows", "seed", "genes", "cells", "scored", "nonscored"), ("source", ("simulated",))
    ),
    **dict.fromkeys(
        ("gene_prefixes", "cell_prefixes", "ignore", "cp_times", "cp_doses", "treated_type",
         "control_type"),
        ("source", ("folder",)),
    ),
    "weights": ("method", ("fixed",)),
    "trials": ("method", ("tpe",)),
    "nested_folds": ("method", ("slsqp", "tpe", "per_target")),
    "pct_start": ("schedule", ("one_cycle",)),
    "milestones": ("schedule", ("multi_step",)),
    "decay": ("schedule", ("multi_step",)),
    "half_period": ("schedule", ("cosine",)),
    "min_delta": ("patience", None),
    "gene_umap": ("umap", None),
    "cell_umap": ("umap", None),
    "stratify_on": ("same_folds", (False,)),
    "tsne": ("embedding", ("tsne",)),
    "perplexity": ("embedding", ("tsne",)),
    "swap_portion": ("swap_probability", None),
    "loop_epochs": ("freeze_loop", ("faithful", "intended")),
    "oof": ("freeze_loop", ("faithful", "intended")),
}  # fmt: skip
# The modes that read a field or a section; the first entry that a name begins with decides.
READ_IN: Mapping[str, tuple[str, ...]] = {
    "data.folder": ("all", "train", "blend", "plan"),
    "data.test_features": ("all", "infer"),
    "parallel.members_at_once": ("all", "train", "plan"),
    "parallel.steps_per_call": ("all", "train", "plan"),
    "parallel.predict_rows": ("all", "train", "infer"),
    "parallel": ("all", "train", "infer", "plan"),
    "checkpoint": ("all", "train"),
    "logging": ("all", "train"),
    "plan": ("plan",),
    "blend.files": ("all", "train", "blend"),
    "blend": ("all", "blend"),
}


def check(config: RunConfig, given: Mapping[str, Any]) -> None:
    """Checks that every given field is read.

    Args:
      config: the configuration that the fields are part of.
      given: values by dotted name, as they were given.

    Raises:
      UserError: naming a field that its section does not read, or that `honest` sets otherwise.
    """
    values = flat(plain(config))
    for name, value in given.items():
        for field, (other, allowed) in _conditions(name, values):
            found = values[other]
            if found not in allowed if allowed is not None else not found:
                expected = " or ".join(map(str, allowed)) if allowed else "more than 0"
                expected = "true" if found is False and not allowed else expected
                raise UserError(
                    f"config.{field}: given, but read only with config.{other}={expected}, "
                    f"found {found}"
                )
        value = list(value) if isinstance(value, tuple) else value
        if config.honest and name.startswith("models.") and values.get(name, value) != value:
            raise UserError(
                f"config.{name}: expected {values[name]} with config.honest=true, found {value}"
            )


def not_default(data: DataConfig) -> dict[str, Any]:
    """Returns the fields of the data's section that are not as they are by default."""
    fields = ((f.name, getattr(data, f.name), f.default) for f in dataclasses.fields(data))
    return {f"data.{name}": value for name, value, default in fields if value != default}


def in_mode(mode: str, given: Iterable[str]) -> Iterator[str]:
    """Yields the given fields that a mode does not read."""
    for name in given:
        start = next((s for s in READ_IN if name == s or name.startswith(f"{s}.")), None)
        if start is not None and mode not in READ_IN[start]:
            yield name


def _conditions(
    name: str, values: Mapping[str, Any]
) -> Iterator[tuple[str, tuple[str, tuple | None]]]:
    """Yields a field or a section around it, the field that it depends on, and with which values.

    `blend.weights.mine` is part of `blend.weights`, which depends on `blend.method`.
    """
    parts = name.split(".")
    for end in range(1, len(parts) + 1):
        if condition := READ_WITH.get(parts[end - 1]):
            other = ".".join([*parts[: end - 1], condition[0]])
            if other in values:
                yield ".".join(parts[:end]), (other, condition[1])
