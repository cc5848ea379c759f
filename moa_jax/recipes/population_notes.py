"""Notes on a population: which members its ensemble takes, and which of their draws mattered."""

from __future__ import annotations

import collections
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from moa_jax.recipes import ensemble
from moa_jax.recipes.draws import Draw
from moa_jax.store import files
from moa_jax.store.model_files import METRICS
from moa_jax.training.means import LOG_ODDS, PROBABILITIES

if TYPE_CHECKING:
    from moa_jax.recipes.context import Context

# How means are called in sentences.
_NAMES = {PROBABILITIES.name: "probabilities", LOG_ODDS.name: "log odds"}
# A rank correlation of fewer members is chance.
FEWEST = 8


def of(
    context: Context, draw: Callable[[int], Draw], stages: Sequence[str], nested: bool
) -> tuple[str, ...]:
    """Returns sentences about a population that is finished.

    Args:
      context: where it was fitted.
      draw: from a member's number to what it drew.
      stages: names of its stages.
      nested: whether a fold's ensemble was chosen by networks that have not seen the fold.
    """
    whole, by_fold = ensemble.stored(context)
    taken = {
        (stage, int(seed)): count
        for stage, own in whole["counts"].items()
        for seed, count in own.items()
    }
    losses = _losses(context, stages)
    number = sum(map(len, losses.values()))
    ranked = sorted(taken, key=lambda place: (-taken[place], place))
    said = [
        f"Ensemble for new rows: {len(taken)} of {number} members, with weights that sum to "
        f"{sum(taken.values())}, the mean of their {_NAMES[whole['mean']]}; number of members for "
        f"each fold: {_range([_size(own) for own in by_fold.values()])}, means "
        f"{_means([own['mean'] for own in by_fold.values()])}.",
        *(
            f"{taken[stage, seed]} x member {seed} ({stage}, alone {losses[stage][seed]:.5f}): "
            f"{_shown(draw(seed))}."
            for stage, seed in ranked
        ),
        "Best member alone by inputs: "
        + ", ".join(f"{stage} {min(own.values()):.5f}" for stage, own in losses.items())
        + ".",
    ]
    if number >= FEWEST:
        said.append(_what_mattered(draw, losses))
    if not nested:
        said.append(
            "Each fold's ensemble is chosen by the other folds' rows, predicted by networks that "
            "trained on the fold: its labels may move the choice, and nothing else (nested=true "
            "keeps them from that, too)."
        )
    return tuple(said)


def _losses(context: Context, stages: Sequence[str]) -> dict[str, dict[int, float]]:
    """Returns the out-of-fold loss of each member by stage and number, the mean over its folds."""
    found: dict[str, dict[int, float]] = {}
    for stage in stages:
        scores = files.read_json(context.folder / stage / METRICS)["fold_scores"]
        for seed in sorted({score["seed"] for score in scores}):
            # A loss is a mean over known cells, of which all rows have as many where all are.
            own = [(s.get("known", s["rows"]), s["score"]) for s in scores if s["seed"] == seed]
            counts, losses = map(np.array, zip(*own, strict=True))
            found.setdefault(stage, {})[seed] = float((counts * losses).sum() / counts.sum())
    return found


def _what_mattered(draw: Callable[[int], Draw], losses: dict[str, dict[int, float]]) -> str:
    """Returns how draws and losses go together, members of all groups by their rank."""
    from scipy.stats import spearmanr

    alone = {seed: loss for own in losses.values() for seed, loss in own.items()}
    drawn = np.array([draw(seed) for seed in alone])
    parts = []
    for name, values in zip(Draw._fields, drawn.T, strict=True):
        if len(set(values)) > 1:
            correlation = spearmanr(values, [*alone.values()]).statistic
            parts.append((correlation, f"{name.replace('_', ' ')} {correlation:+.2f}"))
    parts.sort(key=lambda part: -abs(part[0]))
    return (
        "Rank correlation of draws with a member's loss (below 0: more was better): "
        f"{', '.join(text for _, text in parts)}."
    )


def _shown(draw: Draw) -> str:
    steps, *others = draw._asdict().items()
    shown = [f"{name.replace('_', ' ')} {value:.2g}" for name, value in others]
    return f"{steps[1]} steps, {', '.join(shown)}"


def _size(choice: Mapping[str, Any]) -> int:
    return sum(map(len, choice["counts"].values()))


def _means(names: Sequence[str]) -> str:
    """Returns what the means of folds are of.

    >>> _means(["log_odds", "log_odds"]), _means(["log_odds", "probabilities", "log_odds"])
    ('of log odds', 'of log odds in 2, of probabilities in 1')
    """
    counted = collections.Counter(names)
    if len(counted) == 1:
        return f"of {_NAMES[names[0]]}"
    return ", ".join(f"of {_NAMES[name]} in {counted[name]}" for name in sorted(counted))


def _range(values: list[int]) -> str:
    least, most = min(values), max(values)
    return f"{least}" if least == most else f"{least} to {most}"
