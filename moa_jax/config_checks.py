"""Checks of a configuration across its fields: names that become files, and what is blended."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING

from moa_jax.errors import UserError
from moa_jax.schema import suggestion

if TYPE_CHECKING:
    from moa_jax.config import RunConfig

# A model's name is that of its folder and begins those of files.
_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]*")
LONGEST_NAME = 100
# What else lies in a work folder.
RESERVED = frozenset(
    "blend infer tensorboard config.json environment.json manifest.json log.txt metrics.jsonl "
    "submission.csv".split()
)
# How far the sum of weights may be from 1; published ones have eight digits.
SUM_TOLERANCE = 1e-6


def check_names(config: RunConfig) -> None:
    """Checks that every name of a model is one component of a path, and no other file's.

    Raises:
      UserError: naming the field, what was expected and what was found.
    """
    known: dict[str, str] = {}
    for section, names in (("models", config.models), ("blend.files", config.blend.files)):
        for name in names:
            where = f"config.{section}.{name!s}" if str(name).isprintable() else f"config.{section}"
            if not isinstance(name, str) or not _NAME.fullmatch(name) or len(name) > LONGEST_NAME:
                raise UserError(
                    f"{where}: expected a name of at most {LONGEST_NAME} of the letters A-Z and "
                    f"a-z, digits, '_', '-' and '.', not beginning with '.', found {name!r}"
                )
            # Where upper and lower case are one, as on macOS, so are the folders.
            plain = name.lower()
            if plain in RESERVED:
                raise UserError(
                    f"{where}: expected another name, the work folder has its own {plain}"
                )
            if name in known.values():
                raise UserError(
                    f"{where}: expected another name than those of the models "
                    f"{sorted(config.models)}"
                )
            if plain in known:
                raise UserError(
                    f"{where}: expected another name, it is {known[plain]} but for case"
                )
            known[plain] = name


def check_blend(config: RunConfig) -> None:
    """Checks that there is something to blend, by weights that are ones.

    Raises:
      UserError: naming the field, what was expected and what was found.
    """
    blend = config.blend
    names = [*config.models, *blend.files]
    if not names:
        raise UserError("config.models: expected at least one model, or config.blend.files")
    for name, found in blend.files.items():
        if blend.method != "fixed" and not found.oof:
            raise UserError(
                f"config.blend.files.{name}.oof: expected a file for blend.method={blend.method}, "
                "found none; without out-of-fold predictions weights can only be fixed"
            )
        if not found.oof and not found.test:
            raise UserError(f"config.blend.files.{name}: expected oof or test, found neither")
    for name, weight in blend.weights.items():
        if name not in names:
            raise UserError(
                f"config.blend.weights.{name}: expected one of the models {sorted(names)}"
                + suggestion(name, names)
            )
        is_number = isinstance(weight, (int, float)) and not isinstance(weight, bool)
        if not is_number or not 0 <= weight < math.inf:
            raise UserError(
                f"config.blend.weights.{name}: expected a number of at least 0, found {weight!r}"
            )
    if blend.method == "fixed":
        if len(names) > 1:
            for name in names:
                if name not in blend.weights:
                    raise UserError(
                        f"config.blend.weights: expected a weight for {name}, found none"
                    )
        _check_sum([blend.weights.get(name, 1.0) for name in names], blend.normalise)


def _check_sum(weights: list[float], normalise: str) -> None:
    try:
        total = math.fsum(weights)
    except OverflowError:
        total = math.inf
    if normalise == "divide":
        if not 0 < total < math.inf:
            raise UserError(
                f"config.blend.weights: expected a sum above 0 that is finite, found {total:g}"
            )
    elif abs(total - 1) > SUM_TOLERANCE:
        divide = "" if total in (0, math.inf) else ", or set config.blend.normalise=divide"
        raise UserError(
            f"config.blend.weights: expected a sum of 1 with config.blend.method=fixed, found "
            f"{total:.10g}; change them{divide}"
        )
