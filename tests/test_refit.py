"""A fit that fails leaves an estimator as it was: it goes on to predict what it did."""

import numpy as np
import pytest
from test_estimator import TINY
from test_mechanism_classifier import TINY as SMALL

from moa_jax import (
    DeepInsight,
    MechanismClassifier,
    TabNetClassifier,
    TabNetPretrainer,
    TabNetRegressor,
)
from moa_jax.deepinsight.feature_map import FeatureMap
from moa_jax.engine.finished_run import FinishedRun
from moa_jax.training.loop import StageRun


def failing(*_, **__):
    raise KeyboardInterrupt


@pytest.mark.parametrize(
    ("estimator", "where"),
    [
        (TabNetClassifier(**TINY | {"max_epochs": 1}), (StageRun, "fit")),
        (TabNetRegressor(**TINY | {"max_epochs": 1}), (StageRun, "fit")),
        (TabNetPretrainer(**TINY | {"max_epochs": 1}), (StageRun, "fit")),
        (DeepInsight(resolution=4, embedding="pca"), (FeatureMap, "fit")),
        (MechanismClassifier(**SMALL), (FinishedRun, "train")),
    ],
    ids=lambda value: type(value).__name__,
)
def test_an_interrupted_fit(estimator, where, monkeypatch):
    x = np.random.default_rng(0).normal(size=(40, 3))
    estimator.fit(x, x[:, 0] > 0)
    before = dict(vars(estimator))
    monkeypatch.setattr(*where, failing)
    others = np.c_[x, x] * 7 + 3
    with pytest.raises(KeyboardInterrupt):
        estimator.fit(others, np.arange(40) % 4)
    assert before.keys() == vars(estimator).keys()
    assert all(value is before[name] for name, value in vars(estimator).items())
    assert estimator.n_features_in_ == 3


def test_what_was_never_fitted_is_not_fitted(monkeypatch):
    estimator = TabNetClassifier(**TINY)
    before = dict(vars(estimator))
    monkeypatch.setattr(StageRun, "fit", failing)
    with pytest.raises(KeyboardInterrupt):
        estimator.fit(np.eye(4), [0, 1, 0, 1])
    assert vars(estimator) == before
