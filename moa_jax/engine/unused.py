"""Fields that are given and not read: refused, or told where only the mode does not read them."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from moa_jax.config import LEVELS_OF_FILES, DataConfig, RunConfig, flat, plain
from moa_jax.errors import UserError

# With which values of another field of its section a field is read; None for all but 0 and false.
READ_WITH: Mapping[str, tuple[str, tuple | None]] = {
    **dict.fromkeys(
        ("rows", "seed", "genes", "cells", "scored", "nonscored"), ("source", ("simulated",))
    ),
    **dict.fromkeys(
        ("gene_prefixes", "cell_prefixes", "ignore", "cp_times", "cp_doses", "treated_type",
         "control_type", "other_types", "missing_targets"),
        ("source", ("folder",)),
    ),
    "predict": ("groups", ("auto", "none")),
    "weights": ("method", ("fixed",)),
    "normalise": ("method", ("fixed",)),
    "trials": ("method", ("tpe",)),
    "prior": ("method", ("slsqp", "per_target")),
    "nested_folds": ("method", ("slsqp", "tpe", "per_target")),
    "unlike_splits": ("method", ("slsqp", "tpe", "per_target")),
    **dict.fromkeys(
        ("rounds", "tree_rate", "leaves", "leaf_rows", "tree_ridge", "tree_rows", "tree_columns"),
        ("model", ("trees",)),
    ),
    "c": ("model", ("logistic", "viability")),
    "components": ("model", ("logistic",)),
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
    **dict.fromkeys(("mechanisms", "per_compound", "most_rows", "steps"), ("model", ("best",))),
}  # fmt: skip
# What belongs to one method of several that are tried in turn is told, not refused.
MAY_WAIT = ("blend.trials", "blend.prior", "blend.nested_folds", "blend.unlike_splits")
# The modes that read a field or a section; the first entry that a name begins with decides.
READ_IN: Mapping[str, tuple[str, ...]] = {
    "data.folder": ("all", "train", "blend", "plan"),
    "data.groups": ("all", "train", "blend", "plan"),
    "data.missing_targets": ("all", "train", "blend", "plan"),
    "data.predict": ("all", "train", "blend", "plan"),
    "data.test_features": ("all", "infer"),
    "parallel.members_at_once": ("all", "train", "plan"),
    "parallel.rows": ("all", "train", "plan"),
    "parallel.steps_per_call": ("all", "train", "plan"),
    "parallel.predict_rows": ("all", "train", "infer"),
    "parallel": ("all", "train", "infer", "plan"),
    "checkpoint": ("all", "train"),
    "logging": ("all", "train"),
    "plan": ("plan",),
    # Inference is held to the fields of the blend that its work folder has.
    "blend.files": ("all", "train", "blend", "infer"),
    "blend": ("all", "blend", "infer"),
    "answers.both_scores": ("all", "train", "blend"),
    "answers": ("all", "blend"),
    "explain": ("all", "blend", "infer"),
}


def check(config: RunConfig, given: Mapping[str, Any]) -> None:
    """Checks that every given field is read, but for those that may wait for another method.

    Args:
      config: the configuration that the fields are part of.
      given: values by dotted name, as they were given.

    Raises:
      UserError: naming a field that its section does not read, or that `honest` sets otherwise.
    """
    for field, reason in _unread(config, given):
        if field not in MAY_WAIT:
            raise UserError(f"config.{field}: given, but {reason}")
    values = flat(plain(config))
    for name, value in given.items():
        value = list(value) if isinstance(value, tuple) else value
        split = name.endswith(".split") and config.data.groups != "auto"
        if not (split or config.honest and name.startswith("models.")):
            continue
        if values.get(name, value) != value:
            cause = f"data.groups={config.data.groups}" if split else "honest=true"
            raise UserError(
                f"config.{name}: expected {values[name]} with config.{cause}, found {value}"
            )


def told(config: RunConfig, mode: str, given: Mapping[str, Any]) -> Iterator[str]:
    """Yields a line for each given field that this run does not read and another may."""
    for name in given:
        start = next((s for s in READ_IN if name == s or name.startswith(f"{s}.")), None)
        if start is not None and mode not in READ_IN[start]:
            yield f"config.{name}: given, but mode {mode} does not read it"
    for field, reason in _unread(config, given):
        if field in MAY_WAIT and mode in READ_IN["blend"]:
            yield f"config.{field}: given, but {reason}"


def not_default(data: DataConfig) -> dict[str, Any]:
    """Returns the fields of the data's section that are not as they are by default.

    Levels that are left to the files are not given.
    """
    fields = ((f.name, getattr(data, f.name), f.default) for f in dataclasses.fields(data))
    return {
        f"data.{name}": value
        for name, value, default in fields
        if value not in (default, LEVELS_OF_FILES.get(name, default))
    }


def _unread(config: RunConfig, given: Collection[str]) -> Iterator[tuple[str, str]]:
    """Yields given fields that their section does not read as it is, and why.

    `blend.weights.mine` is part of `blend.weights`, which depends on `blend.method`.
    """
    values = flat(plain(config))
    wanted = {"compounds": "compound", "wells": "stratified"}.get(config.data.predict)
    if "data.predict" in given and wanted and config.data.groups in ("auto", "none"):
        if all(model.split != wanted for model in config.models.values()):
            yield "data.predict", "read only by models with split=auto, found none"
    for name, model in config.models.items():
        field = f"models.{name}.frequent_above"
        split = model.original_split if model.split == "original" else model.split
        if field in given and split in ("original", "stratified"):
            yield field, f"read only with folds that keep something whole, found split={split}"
    for name in given:
        parts = name.split(".")
        for end in range(1, len(parts) + 1):
            other, allowed = READ_WITH.get(parts[end - 1], ("", ()))
            other = ".".join([*parts[: end - 1], other])
            if other not in values:
                continue
            found = values[other]
            if found not in allowed if allowed is not None else not found:
                expected = "true" if found is False else "more than 0"
                if allowed is not None:
                    expected = " or ".join(map(str, allowed))
                reason = f"read only with config.{other}={expected}, found {found}"
                yield ".".join(parts[:end]), reason
