"""Configuration of answers: what is said of wells and compounds, and of what drives it."""

from __future__ import annotations

import dataclasses

from moa_jax.schema import choice, number


@dataclasses.dataclass(frozen=True)
class AnswersConfig:
    """What `predictions.csv` says of wells and compounds. Inference does as the blend before it.

    Attributes:
      calibration: how probabilities are calibrated on the out-of-fold predictions: `none`,
        `temperature`, `isotonic`, or `auto` for what has the lowest cross-fitted loss.
      false_discovery_rate: the estimated share of false ones among all calls up to which
        mechanisms are called confident; none is at a probability below 0.5.
      listed: mechanisms of each well and compound that the CSV lists, beside all confident ones;
        the parquet file has all.
      both_scores: which models are also trained on the folds of the other question, for the score
        of new wells of known compounds beside that of new compounds, or the other way round:
        `none`; the `logistic` regressions, which take least time; `all`, and their blend. It takes
        compounds of several wells. Models of Python's classifier are trained on their folds alone.
    """

    calibration: str = choice("auto", "auto", "none", "temperature", "isotonic")
    false_discovery_rate: float = number(0.1, 0.001, 0.5)
    listed: int = number(10, 1, 10_000)
    both_scores: str = choice("none", "none", "logistic", "all")


@dataclasses.dataclass(frozen=True)
class ExplainConfig:
    """What is told of the columns that drive predictions, in `attributions.parquet`.

    Attributes:
      model: which model's networks are explained, after a blend and by new rows after inference:
        `none`, or the `best` of those with networks by its out-of-fold log loss.
      mechanisms: which ones; empty for all.
      per_compound: average over the rows of each compound, too; of training rows alone.
      most_rows: of a mechanism, the rows in which it is most likely, so many at most.
      steps: points of the integral over each row. Attributions sum to the log odds that they
        explain but for an error, which the log and the file tell; more points make it smaller.
    """

    model: str = choice("none", "none", "best")
    mechanisms: tuple[str, ...] = dataclasses.field(default=(), metadata={"empty": True})
    per_compound: bool = False
    most_rows: int = number(30, 1)
    steps: int = number(16, 1, 1000)
