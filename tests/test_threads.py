"""Threads of one process that fit at the same time, as those of joblib."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
from test_estimator import TINY

from moa_jax import TabNetClassifier


def test_estimators_are_fitted_in_threads():
    """Orbax numbers the saves of a process: those of threads took each other's folders away."""
    x = np.random.default_rng(0).normal(size=(40, 3))
    y = x[:, 0] > 0

    def fitted(seed):
        return TabNetClassifier(**TINY | {"random_state": seed}).fit(x, y).predict_proba(x)

    alone = [fitted(seed) for seed in range(6)]
    with ThreadPoolExecutor(6) as pool:
        for one, other in zip(alone, pool.map(fitted, range(6)), strict=True):
            np.testing.assert_array_equal(one, other)
