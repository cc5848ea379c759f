"""Configuration of a blend: which models by which names, their weights, and what these must be."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Iterable, Mapping, Sequence

from moa_jax.errors import UserError
from moa_jax.schema import choice, is_number, number, suggestion

# A model's name is that of its folder and begins those of files.
_NAME = re.compile(r"[A-Za-z0-9_-]+")
LONGEST_NAME = 100
# What else lies in a work folder, or beside a model's predictions of new rows.
RESERVED = frozenset(
    "blend checkpoints feature_maps infer tensorboard completed.json config.json "
    "environment.json manifest.json log.txt metrics.jsonl submission.csv predictions attributions "
    "other_folds estimator.json estimator.npz".split()
)
# How far the sum of weights may be from 1; published ones have eight digits.
SUM_TOLERANCE = 1e-6


@dataclasses.dataclass(frozen=True)
class PredictionFiles:
    """Predictions of a model from elsewhere: CSV or parquet, `sig_id` and the scored targets.

    Attributes:
      oof: out-of-fold predictions of the treated or of all training rows; empty for none.
      test: predictions of the test rows; empty for none.
      split: what the folds of `oof` keep whole, `rows` (nothing more), `compounds` or `groups`;
        empty if that is unknown.
    """

    oof: str = ""
    test: str = ""
    split: str = choice("", "", "rows", "compounds", "groups")


@dataclasses.dataclass(frozen=True)
class BlendConfig:
    """How models are blended.

    Attributes:
      method: how weights come about: `slsqp`, `tpe` (Optuna) and `per_target` (SLSQP for each
        target) search them on the out-of-fold predictions, `fixed` takes `weights`.
      weights: weight of each model, for `fixed`, of sum 1; a single model needs none.
      normalise: what to do with fixed weights of another sum: `stop`, or `divide` by it.
      files: predictions of models from elsewhere, by the model's name, blended with the run's.
      unlike_splits: what to do where weights are searched for models whose folds keep different
        things whole, so that their out-of-fold predictions do not compare: `stop` or `allow`.
      mean: what the blend is the weighted mean of: `probabilities`, as in the original, or
        `log_odds`, by which models that agree are as sure as each of them.
      prior: how much is expected of equal weights, by `slsqp` and `per_target`: all weight on one
        of K models must gain prior * (K - 1) nats of log loss, summed over rows and targets (of
        one target, if weights are of each). It counts where rows are few; 0 is the original's.
      trials: weight vectors that `tpe` tries.
      nested_folds: parts of the rows for the nested score, whose weights never saw the rows they
        are scored on. Each part costs one more search.
    """

    method: str = choice("slsqp", "slsqp", "tpe", "per_target", "fixed")
    weights: Mapping[str, float] = dataclasses.field(default_factory=dict)
    normalise: str = choice("stop", "stop", "divide")
    files: Mapping[str, PredictionFiles] = dataclasses.field(default_factory=dict)
    unlike_splits: str = choice("stop", "stop", "allow")
    mean: str = choice("probabilities", "probabilities", "log_odds")
    prior: float = number(0.0, 0.0, 1e6)
    trials: int = number(500, 1, 100_000)
    nested_folds: int = number(5, 2, 1000)

    def fixed(self, names: Iterable[str]) -> dict[str, float]:
        """Returns the weights that `fixed` applies to these models, by name.

        >>> BlendConfig(weights={"a": 3, "b": 1}, normalise="divide").fixed(["a", "b"])
        {'a': 0.75, 'b': 0.25}
        """
        chosen = {name: float(self.weights.get(name, 1.0)) for name in names}
        if self.normalise == "divide":
            total = math.fsum(chosen.values())
            chosen = {name: weight / total for name, weight in chosen.items()}
        return chosen

    def check(self, models: Sequence[str]) -> None:
        """Checks that there is something to blend, by names and weights that are ones.

        A model's name is one component of a path, and of no other file's.

        Args:
          models: names of the models that the run trains.

        Raises:
          UserError: naming the field, what was expected and what was found.
        """
        names = [*models, *self.files]
        if not names:
            raise UserError("config.models: expected at least one model, or config.blend.files")
        _check_names(models, self.files)
        self._check_files()
        self._check_weights(names)

    def _check_files(self) -> None:
        for name, found in self.files.items():
            where = f"config.blend.files.{name}"
            if self.method != "fixed" and not found.oof:
                raise UserError(
                    f"{where}.oof: expected a file for blend.method={self.method}, found none; "
                    "without out-of-fold predictions weights can only be fixed"
                )
            if not found.oof and not found.test:
                raise UserError(f"{where}: expected oof or test, found neither")

    def _check_weights(self, names: Sequence[str]) -> None:
        for name, weight in self.weights.items():
            where = f"config.blend.weights.{name}"
            if name not in names:
                raise UserError(
                    f"{where}: expected one of the models {sorted(names)}" + suggestion(name, names)
                )
            if not is_number(weight) or not 0 <= weight < math.inf:
                raise UserError(f"{where}: expected a number of at least 0, found {weight!r}")
        if self.method != "fixed":
            return
        for name in names:
            if len(names) > 1 and name not in self.weights:
                raise UserError(f"config.blend.weights: expected a weight for {name}, found none")
        _check_sum([self.weights.get(name, 1.0) for name in names], self.normalise)


def _check_names(models: Sequence[str], others: Iterable[str]) -> None:
    known: dict[str, str] = {}
    for section, names in (("models", models), ("blend.files", others)):
        for name in names:
            where = f"config.{section}.{name!s}" if str(name).isprintable() else f"config.{section}"
            # Where upper and lower case are one, as on macOS, so are the folders.
            plain = str(name).lower()
            if plain in RESERVED:
                raise UserError(
                    f"{where}: expected another name, the work folder has its own {plain}"
                )
            if not isinstance(name, str) or not _NAME.fullmatch(name) or len(name) > LONGEST_NAME:
                raise UserError(
                    f"{where}: expected a name of at most {LONGEST_NAME} of the letters A-Z and "
                    f"a-z, digits, '_' and '-', found {name!r}"
                )
            if name in known.values():
                raise UserError(
                    f"{where}: expected another name than those of the models {sorted(models)}"
                )
            if plain in known:
                raise UserError(
                    f"{where}: expected another name, it is {known[plain]} but for case"
                )
            known[plain] = name


def _check_sum(weights: list[float], normalise: str) -> None:
    try:
        total = math.fsum(weights)
    except OverflowError:  # each is finite, their sum is not
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
