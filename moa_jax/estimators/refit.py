"""Refits: what an estimator has learned stays whole, whatever becomes of the next fit."""

from __future__ import annotations

import functools
from collections.abc import Callable


def all_or_nothing(fit: Callable) -> Callable:
    """Returns a `fit` that leaves the estimator as it was where it raises, or is interrupted.

    Else it would predict by the weights of one fit in the classes and the scales of another.
    """

    @functools.wraps(fit)
    def whole(self, *args, **given):
        before = dict(vars(self))
        try:
            return fit(self, *args, **given)
        except BaseException:
            vars(self).clear()
            vars(self).update(before)
            raise

    return whole
