"""Classes of any type as JSON has them."""

from __future__ import annotations

from typing import Any

import numpy as np


def described(classes: np.ndarray) -> dict[str, Any]:
    """Returns what `restored` takes of classes [K]."""
    # JSON has no dates, but the numbers that they are.
    numbers = classes.view(np.int64) if classes.dtype.kind in "mM" else classes
    return {"classes": numbers.tolist(), "classes_dtype": classes.dtype.str}


def restored(stored: dict[str, Any]) -> np.ndarray:
    """Returns the classes that were described."""
    return np.array(stored["classes"], np.dtype(stored["classes_dtype"]))
