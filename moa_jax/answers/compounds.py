"""Compounds: the wells of each combined into one probability per mechanism, in log odds."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

# Probabilities nearer to 0 or 1 count as this near: beyond, log odds say nothing of replicates.
NEAREST = 1e-7


class Combined(NamedTuple):
    """Probabilities of compounds.

    Attributes:
      names: [C] compounds, in the order of their first wells.
      probabilities: [C, L] probabilities.
      counts: [C] number of wells.
      spread: [C, L] standard deviation of the wells' log odds; NaN for a single well.
    """

    names: np.ndarray
    probabilities: np.ndarray
    counts: np.ndarray
    spread: np.ndarray


def combined(probabilities: np.ndarray, compounds: np.ndarray) -> Combined:
    """Returns one probability per compound and mechanism: that of the mean log odds of its wells.

    A compound of one well keeps the well's probability, within `NEAREST` of 0 and 1.

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

    def add(self, probabilities: np.ndarray, units: np.ndarray) -> None:
        """Adds wells.

        Args:
          probabilities: [n, L] their probabilities.
          units: [n] number of each one's compound.
        """
        count = max(len(self._counts), int(units.max(initial=-1)) + 1)
        grown = count - len(self._counts)
        self._counts = np.pad(self._counts, (0, grown))
        self._means = np.pad(self._means, ((0, grown), (0, 0)))
        self._squares = np.pad(self._squares, ((0, grown), (0, 0)))
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

    def combined(self, names: np.ndarray) -> Combined:
        """Returns what `combined` does of all wells that were added, of compounds by number."""
        several = np.where(self._counts > 1, self._counts - 1, np.nan)
        spread = np.sqrt(self._squares / several[:, None])
        return Combined(names, of_log_odds(self._means), self._counts.copy(), spread)


def log_odds(probabilities: np.ndarray) -> np.ndarray:
    """Returns log(p / (1 - p)), p within `NEAREST` of 0 and 1.

    >>> log_odds(np.array([0.5, 0.0])).round(3).tolist()
    [0.0, -16.118]
    """
    p = np.clip(np.asarray(probabilities, np.float64), NEAREST, 1 - NEAREST)
    return np.log(p) - np.log1p(-p)


def of_log_odds(odds: np.ndarray) -> np.ndarray:
    """Returns 1 / (1 + exp(-odds)).

    >>> of_log_odds(np.array([0.0, -800.0])).tolist()
    [0.5, 0.0]
    """
    # By exp(-|odds|), which does not overflow.
    small = np.exp(-np.abs(odds))
    return np.where(odds >= 0, 1.0, small) / (1 + small)
