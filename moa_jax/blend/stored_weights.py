"""Stored weights: `blend/weights.json` written, read back and held against the rules of weights."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from moa_jax.config import SUM_TOLERANCE, BlendConfig
from moa_jax.errors import UserError
from moa_jax.schema import is_number
from moa_jax.store import files
from moa_jax.training.means import PROBABILITIES

FILE = Path("blend") / "weights.json"
REMEDY = "weigh the models again with --mode=blend"


def write(workdir: Path, record: Mapping[str, Any]) -> None:
    """Writes what a weighing recorded; raises a UserError where the folder cannot be written."""
    files.write_sealed(workdir / FILE, record)


def read(
    workdir: Path, models: Collection[str], targets: Collection[str] | None = None
) -> dict[str, Any]:
    """Returns what `write` was given, its `weights` checked.

    Args:
      workdir: the work folder.
      models: names of the blended models.
      targets: names of the targets, which weights of each target are of; None where they are not
        known.

    Raises:
      UserError: the file is missing or was changed; the weights are not those of these models and
        targets, not in [0, 1] or not of sum 1.
    """
    path = workdir / FILE
    record = files.read_sealed(path, REMEDY)
    found = record.get("weights")
    if not isinstance(found, dict) or not found or set(found) != set(models):
        names = sorted(found) if isinstance(found, dict) else "none"
        raise _damaged(path, f"weights of the models {sorted(models)}", names)
    by_target = {name: of for name, of in found.items() if isinstance(of, dict)}
    if not by_target:
        _check(path, "", found)
        return record
    expected = set(next(iter(by_target.values()))) if targets is None else set(targets)
    for name in found:
        if name not in by_target or set(by_target[name]) != expected:
            raise _damaged(path, f"a weight of {name} for each target", "others")
    for target in sorted(expected):
        _check(path, f"{target}: ", {name: of[target] for name, of in by_target.items()})
    return record


def check_origin(workdir: Path, record: Mapping[str, Any], run: str, blend: BlendConfig) -> None:
    """Checks that weights are a run's own, and came about as its configuration says.

    Raises:
      UserError: they are of another run, method, mean or prior, or not the fixed ones.
    """
    path, method = workdir / FILE, record.get("method")
    if record.get("run") != run:
        raise UserError(
            f"{path}: expected weights of the run {run}, found those of {record.get('run')}; "
            f"{REMEDY}"
        )
    if method != blend.method:
        raise UserError(
            f"{path}: expected weights of blend.method={blend.method}, as the work folder's "
            f"configuration says, found {method}; {REMEDY}"
        )
    expected = blend.prior if method in ("slsqp", "per_target") else 0.0
    if (prior := record.get("prior", 0.0)) != expected:
        raise UserError(
            f"{path}: expected weights of blend.prior={expected:g}, as the work folder's "
            f"configuration says, found {prior}; {REMEDY}"
        )
    if (mean := record.get("mean", PROBABILITIES.name)) != blend.mean:
        raise UserError(
            f"{path}: expected weights of blend.mean={blend.mean}, as the work folder's "
            f"configuration says, found {mean}; {REMEDY}"
        )
    weights = record["weights"]
    if method == "fixed" and weights != blend.fixed(weights):
        raise UserError(
            f"{path}: expected the weights of config.blend.weights {blend.fixed(weights)}, found "
            f"{weights}; {REMEDY}"
        )


def _check(path: Path, where: str, weights: Mapping[str, Any]) -> None:
    for name, weight in weights.items():
        if not is_number(weight) or not 0 <= weight <= 1 + SUM_TOLERANCE:
            raise _damaged(path, f"{where}a weight of {name} between 0 and 1", weight)
    if abs((total := math.fsum(weights.values())) - 1) > SUM_TOLERANCE:
        raise _damaged(path, f"{where}weights of sum 1", f"{total:.10g}")


def _damaged(path: Path, expected: str, found: Any) -> UserError:
    return UserError(f"{path}: damaged, expected {expected}, found {found}; {REMEDY}")
