"""Question: whether new compounds are to be predicted, or new wells of known ones."""

from __future__ import annotations

import dataclasses

import numpy as np

from moa_jax.errors import UserError
from moa_jax.prepare.options import COMPOUNDS, WELLS


@dataclasses.dataclass(frozen=True)
class Question:
    """What is to be predicted.

    Attributes:
      predict: `compounds` or `wells`, as `config.data.predict`.
      told: why, in a sentence.
    """

    predict: str
    told: str


def find(
    given: str, compound: np.ndarray | None, treated: np.ndarray, to_predict: np.ndarray
) -> Question | None:
    """Returns what is to be predicted, as is said or as most of the rows to predict tell.

    Args:
      given: `compounds`, `wells`, or empty.
      compound: [N] texts, None for one that is missing; None where no column has them.
      treated: [N] bool, treated training rows.
      to_predict: [N] bool, treated rows to predict.

    Returns:
      None where nobody says, and compounds are not known or no row is to be predicted: then
      compounds stay whole in folds where they are known.

    Raises:
      UserError: new compounds are asked for, and no column tells compounds.
    """
    if given == COMPOUNDS and compound is None:
        raise UserError("--predict=compounds: expected a column of compounds, set --compound")
    if given:
        return Question(given, f"as --predict={given} says")
    if compound is None or not to_predict.any():
        return None
    known = {one for one in compound[treated] if one is not None}
    of_known = sum(one in known for one in compound[to_predict])
    count = int(to_predict.sum())
    return Question(
        WELLS if 2 * of_known > count else COMPOUNDS,
        f"{of_known:,} of {count:,} wells to predict are of compounds that have training wells",
    )


def line(found: Question) -> str:
    """Returns what a question means for the folds, for the log and the page."""
    other, folds = COMPOUNDS, "part the wells of a compound"
    what = "new wells of known compounds"
    if found.predict == COMPOUNDS:
        other, folds, what = WELLS, "keep compounds whole", "new compounds"
    return (
        f"To be predicted are {what}, {found.told}: folds {folds}; --predict={other}, or "
        f"--config.data.predict={other} of a run, has it otherwise."
    )
