"""Rows of a dense network: a step, an epoch, predictions, and steps of several members."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from benchmarks.row import Peer, Row, Side

if TYPE_CHECKING:
    from benchmarks.training import Training

WORDS = {5: "five", 10: "ten"}


class Network(NamedTuple):
    """A network's sides.

    Attributes:
      group: of its rows.
      training: makes ours at a size of `SIZES`, of so many members that train together.
      flops: returns the operations of a forward pass of one batch at a size.
      peers: makes those that take the steps of an epoch which is timed of so many members, and
        validate after them where they are asked to.
      predicting: those that predict.
    """

    group: str
    training: Callable[[str, int], Training]
    flops: Callable[[str], float]
    peers: Callable[[int, bool], Mapping[str, Peer]]
    predicting: Mapping[str, Peer]

    def of_one(self) -> tuple[Row, ...]:
        """Returns the rows of one member."""
        return (
            Row(
                f"{self.group}.step", "step of one member", "ms",
                functools.partial(_steps, self, 1), self.peers(1, False),
            ),
            Row(
                f"{self.group}.epoch", "epoch with validation", "s",
                functools.partial(_epoch, self), self.peers(1, True),
            ),
            Row(
                f"{self.group}.forward", "prediction by one member", "rows/s",
                functools.partial(_forward, self), self.predicting,
            ),
        )  # fmt: skip

    def of_several(
        self, name: str, how: str, counts: Sequence[int], quick: bool = True
    ) -> tuple[Row, ...]:
        """Returns the rows `NAME_COUNT` of steps of several members, of numbers in `WORDS`."""
        return tuple(
            Row(
                f"{self.group}.{name}_{count}", f"step of one member, {WORDS[count]} {how}", "ms",
                functools.partial(_steps, self, count), self.peers(count, False), quick=quick,
            )
            for count in counts
        )  # fmt: skip


def _steps(network: Network, count: int, size: str) -> Side:
    return network.training(size, count).steps(network.flops(size))


def _epoch(network: Network, size: str) -> Side:
    return network.training(size, 1).epoch()


def _forward(network: Network, size: str) -> Side:
    ours = network.training(size, 1)
    return ours.forward(np.arange(len(ours.stage.shared)), network.flops(size))
