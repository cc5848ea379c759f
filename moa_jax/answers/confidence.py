"""Confidence: from which score on a mechanism is called, by the estimated share of false calls."""

from __future__ import annotations

import numpy as np

# Default of the share of false calls among all calls that is accepted.
RATE = 0.1
# What is less probable than this is not called, however sure the others are: it would be likelier
# false than true.
LEAST = 0.5
# What is known of a mechanism's own calls is mixed with so many calls at the rate of all.
PRIOR_CALLS = 10.0


def thresholds(
    scores: np.ndarray,
    labels: np.ndarray,
    rate: float = RATE,
    weights: np.ndarray | None = None,
    known: np.ndarray | None = None,
    least: float = -np.inf,
) -> np.ndarray:
    """Returns [L] the score from which on each mechanism is called; infinity for never.

    A call is a cell of out-of-fold predictions whose score is at least a threshold, and false where
    its label is 0. The share of false calls is estimated as (false + 1) / calls, an upper bound
    where there are few, as target-decoy searches and the knockoff+ filter have it. First all
    mechanisms get the lowest threshold at which this is at most `rate`. Then a mechanism whose own
    calls are worse gets a higher one: the lowest at which its share, mixed with `PRIOR_CALLS` calls
    at the pooled estimate, is at most `rate` again. A mechanism without a positive cell is never
    called, and neither is one without a negative cell: its calls cannot be false, and would make
    room for false ones of others.

    The share is of all calls together. Where most are sure and labels are frequent, calls that are
    likelier false than true would be within it: nothing is called below `least`.

    Args:
      scores: [N, L] out-of-fold probabilities of compounds, or of wells.
      labels: [N, L] labels, 0 or 1.
      rate: accepted share of false calls, between 0 and 1.
      weights: [N] what each row counts; wells of a compound of n wells 1 / n, so that calls are
        counted in compounds. None for 1.
      known: [N, L] bool, the cells whose label is known; None for all.
      least: the lowest score that may be called.

    References:
      R. F. Barber and E. J. Candes (2015), Controlling the false discovery rate via knockoffs,
      Annals of Statistics 43(5). J. E. Elias and S. P. Gygi (2007), Target-decoy search strategy
      for increased confidence, Nature Methods 4.

    >>> scores = np.linspace(0.99, 0.01, 99)[:, None]
    >>> thresholds(scores, scores > 0.5, rate=0.1).round(2).tolist()  # 49 true, 4 false calls
    [0.47]
    >>> thresholds(scores, np.arange(99)[:, None] % 2, rate=0.1).tolist()
    [inf]
    """
    scores = np.asarray(scores, np.float64)
    positive = np.asarray(labels) != 0
    rows = np.ones(len(scores)) if weights is None else np.asarray(weights, np.float64)
    counted = np.broadcast_to(rows[:, None], scores.shape)
    if known is not None:
        counted = np.where(known, counted, 0.0)
    callable_ = (positive & (counted > 0)).any(0) & (~positive & (counted > 0)).any(0)
    pooled = scores[:, callable_]
    found = np.full(scores.shape[1], np.inf)
    if not pooled.size:
        return found
    counted = np.where(pooled >= least, counted[:, callable_], 0.0)
    false = ~positive[:, callable_]
    common, share = _lowest(pooled.ravel(), counted.ravel(), false.ravel(), rate, 1.0, 0.0)
    if not np.isfinite(common):
        return found
    own = []
    for score, count, is_false in zip(pooled.T, counted.T, false.T, strict=True):
        called = (score >= common) & (count > 0)
        lowest, _ = _lowest(
            score[called], count[called], is_false[called],
            rate, PRIOR_CALLS * share, PRIOR_CALLS, common,
        )  # fmt: skip
        # Between the lowest call and the threshold of all nothing is known against it.
        own.append(common if called.any() and lowest == score[called].min() else lowest)
    found[callable_] = own
    return found


def estimated_share(
    scores: np.ndarray,
    labels: np.ndarray,
    found: np.ndarray,
    weights: np.ndarray | None = None,
    known: np.ndarray | None = None,
) -> tuple[float, float, float]:
    """Returns calls, false calls and (false + 1) / calls at thresholds, the last 1 without calls.

    Arguments as of `thresholds`, and `found`, what it returned.
    """
    rows = np.ones(len(scores)) if weights is None else np.asarray(weights, np.float64)
    called = np.asarray(scores) >= found
    if known is not None:
        called = called & known
    calls = float((called * rows[:, None]).sum())
    false = float(((called & (np.asarray(labels) == 0)) * rows[:, None]).sum())
    return calls, false, min(1.0, (false + 1) / calls) if calls else 1.0


def _lowest(
    scores: np.ndarray,
    counts: np.ndarray,
    false: np.ndarray,
    rate: float,
    more_false: float,
    more_calls: float,
    empty: float = np.inf,
) -> tuple[float, float]:
    """Returns the lowest score with (false + more_false) / (calls + more_calls) <= rate, and that.

    `empty` is returned where there are no cells, of which nothing speaks against it. Where no score
    will do, it is infinity.
    """
    kept = counts > 0
    scores, counts, false = scores[kept], counts[kept], false[kept]
    if not len(scores):
        return empty, 1.0
    order = np.argsort(-scores, kind="stable")
    calls, wrong = counts[order].cumsum(), (counts * false)[order].cumsum()
    share = (wrong + more_false) / (calls + more_calls)
    # Of equal scores all are called or none: the last one counts.
    last = np.append(np.diff(scores[order]) != 0, True)
    allowed = np.flatnonzero(last & (share <= rate + 1e-12))
    if not len(allowed):
        return np.inf, 1.0
    # Down to that score there may be worse places: what is called above counts in full.
    return float(scores[order][allowed[-1]]), float(share[allowed[-1]])
