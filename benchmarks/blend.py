"""The search for weights of a blend, beside the original's objective without its gradient."""

from __future__ import annotations

import numpy as np

from benchmarks.row import Peer, Row, Side
from moa_jax.training.metrics import EPSILON

# Models, rows and labels.
SIZES = {"tiny": (3, 40, 4), "quick": (7, 2_000, 100), "full": (7, 21_948, 206)}


def data(size: str) -> tuple[np.ndarray, np.ndarray]:
    """Returns predictions of models of unlike merit, and the labels."""
    models, rows, labels = SIZES[size]
    generator = np.random.default_rng(0)
    targets = (generator.random((rows, labels)) < 0.02).astype(np.uint8)
    odds = np.log(0.02 / 0.98) + 3 * targets
    noise = generator.normal(size=(models, rows, labels))
    scale = np.linspace(0.5, 1.5, models)[:, None, None]
    return 1 / (1 + np.exp(-odds - scale * noise)), targets


def ours(size: str) -> Side:
    from moa_jax.blend.search import slsqp

    predictions, targets = data(size)
    return Side(lambda: slsqp(predictions, targets))


def original(size: str) -> Side:
    """Returns the side whose gradient is by differences, one blend of all models for each."""
    from scipy import optimize

    predictions, targets = data(size)
    count = len(predictions)

    def objective(weights: np.ndarray) -> float:
        blend = np.tensordot(weights, predictions, axes=1).clip(EPSILON, 1 - EPSILON)
        return -np.mean(targets * np.log(blend) + (1 - targets) * np.log(1 - blend))

    return Side(
        lambda: optimize.minimize(
            objective,
            np.full(count, 1 / count),
            method="SLSQP",
            bounds=[(0, 1)] * count,
            constraints={"type": "eq", "fun": lambda weights: weights.sum() - 1},
            tol=1e-10,
        )
    )


ROWS = (
    Row(
        "blend.slsqp", "weights of seven models", "s", ours,
        {"scipy, original's objective": Peer(original)},
    ),
)  # fmt: skip
