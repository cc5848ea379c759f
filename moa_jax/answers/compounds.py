"""Compounds: the wells of each combined into one probability per mechanism, in log odds."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from moa_jax.training.log_odds import log_odds, of_log_odds


class Combined(NamedTuple):
    """Probabilities of compounds.

    Attributes:
      names: [C] compounds, in the order of their first wells.
      probabilities: [C, L] probabilities.
      counts: [C] number of wells.
      spread: [C, L] standard deviation of the wells' log odds; NaN for a single well.
      member_spread: [C, L] root of the mean square of the wells' spread over members; NaN where
        that of a well is not known.
    """

    names: np.ndarray
    probabilities: np.ndarray
    counts: np.ndarray
    spread: np.ndarray
    member_spread: np.ndarray


def combined(probabilities: np.ndarray, compounds: np.ndarray) -> Combined:
    """Returns one probability per compound and mechanism: that of the mean log odds of its wells.

    A compound of one well keeps the well's probability, within 1e-7 of 0 and 1.

    Args:
      probabilities: [N, L] probabilities of the wells.
      compounds: [N] compound of each well.

    >>> wells = np.array([[0.9], [0.2], [0.5]])
    >>> found = combined(wells, np.array(["b", "a", "b"]))
    >>> found.names.tolist(), found.probabilities.round(4).tolist(), found.counts.tolist()
    (['b', 'a'], [[0.75], [0.2]], [2, 1])
    >>> found.spread.round(4).tolist()
    [[1.5537], [nan]]
    """
    units, names = numbered(compounds)
    sums = Sums(probabilities.shape[1])
    sums.add(probabilities, units)
    return sums.combined(names)


def numbered(compounds: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns [N] the number of each well's compound and [C] the compounds, as they first appear.

    >>> [found.tolist() for found in numbered(np.array(["b", "a", "b"]))]
    [[0, 1, 0], ['b', 'a']]
    """
    names, first, units = np.unique(
        np.asarray(compounds).astype(str), return_index=True, return_inverse=True
    )
    order = np.argsort(first)
    place = np.empty_like(order)
    place[order] = np.arange(len(order))
    return place[units.reshape(-1)], names[order]


class Sums:
    """Sums of wells' log odds by compound, which wells are added to part by part."""

    def __init__(self, num_mechanisms: int):
        self._counts = np.zeros(0, np.int64)
        # Mean and sum of squared deviations, which do not cancel as squares would.
        self._means = np.zeros((0, num_mechanisms))
        self._squares = np.zeros((0, num_mechanisms))
        self._of_members = np.zeros((0, num_mechanisms))

    def add(
        self, probabilities: np.ndarray, units: np.ndarray, spread: np.ndarray | None = None
    ) -> None:
        """Adds wells.

        Args:
          probabilities: [n, L] their probabilities.
          units: [n] number of each one's compound.
          spread: [n, L] standard deviation of each one's log odds over members; None for unknown.
        """
        count = max(len(self._counts), int(units.max(initial=-1)) + 1)
        grown = count - len(self._counts)
        self._counts = np.pad(self._counts, (0, grown))
        self._means = np.pad(self._means, ((0, grown), (0, 0)))
        self._squares = np.pad(self._squares, ((0, grown), (0, 0)))
        self._of_members = np.pad(self._of_members, ((0, grown), (0, 0)))
        # Wells of a compound one after another, one of each compound at a time.
        order = np.argsort(units, kind="stable")
        sorted_units = units[order]
        starts = np.searchsorted(sorted_units, sorted_units)
        turn = np.arange(len(units)) - starts
        odds = log_odds(probabilities)
        for number in range(int(turn.max(initial=-1)) + 1):
            wells = order[turn == number]
            of = units[wells]
            self._counts[of] += 1
            change = odds[wells] - self._means[of]
            self._means[of] += change / self._counts[of, None]
            self._squares[of] += change * (odds[wells] - self._means[of])
            self._of_members[of] += np.nan if spread is None else np.square(spread[wells])

    def combined(self, names: np.ndarray) -> Combined:
        """Returns what `combined` does of all wells that were added, of compounds by number."""
        several = np.where(self._counts > 1, self._counts - 1, np.nan)
        spread = np.sqrt(self._squares / several[:, None])
        of_members = np.sqrt(self._of_members / self._counts[:, None])
        counts = self._counts.copy()
        return Combined(names, of_log_odds(self._means), counts, spread, of_members)
