"""Roofline: the least time of a piece of work on a device, by its products and by its memory."""

from __future__ import annotations

from typing import NamedTuple

from moa_jax.plan.cards import Card
from moa_jax.plan.traffic import Traffic


class Times(NamedTuple):
    """Seconds.

    Attributes:
      flops: of the products, each type of them at its own peak.
      bytes: of reading and writing memory.
    """

    flops: float
    bytes: float


def times(work: Traffic, card: Card, efficiency: float = 1.0) -> Times:
    """Returns how long a device needs for each of the two; the longer one counts.

    Args:
      work: what is done.
      card: the device.
      efficiency: share of its peaks that is reached.
    """
    products = sum(count / card.peak(kind) for kind, count in work.flops.items())
    return Times(products / efficiency, work.num_bytes / card.bandwidth / efficiency)
