"""Conventions of JAX: what is asked of the code around stops neither command nor estimators."""

import jax
import numpy as np
import pytest
from test_estimator import TINY
from test_mechanism_classifier import TINY as SMALL

from moa_jax import DeepInsight, MechanismClassifier, TabNetClassifier
from moa_jax.command import entry
from moa_jax.training import conventions

OTHERS = {
    "jax_numpy_dtype_promotion": "strict",
    "jax_numpy_rank_promotion": "raise",
    "jax_disable_jit": True,
}


@pytest.fixture
def others():
    """Has JAX refuse what it otherwise does by itself."""
    before = {name: jax.config.values[name] for name in OTHERS}
    for name, value in OTHERS.items():
        jax.config.update(name, value)
    yield
    for name, value in before.items():
        jax.config.update(name, value)


def found():
    return {name: getattr(jax.config, name) for name in OTHERS}


def test_they_are_the_usual_ones_within(others):
    with conventions.usual():
        assert found() == {
            "jax_numpy_dtype_promotion": "standard",
            "jax_numpy_rank_promotion": "allow",
            "jax_disable_jit": False,
        }
    assert found() == OTHERS


def test_the_command_has_them(others, monkeypatch):
    seen = []
    monkeypatch.setattr(entry, "_run", lambda *_: seen.append(found()))
    monkeypatch.setattr(entry.flags, "configuration", lambda: None)
    monkeypatch.setattr(entry.flags, "FIELDS", type("", (), {"value": False}))
    entry.main(["moa-jax"])
    assert seen and seen[0] != OTHERS and found() == OTHERS


def test_estimators_have_them(others):
    x = np.random.default_rng(0).normal(size=(40, 3))
    y = x[:, 0] > 0
    tabnet = TabNetClassifier(**TINY | {"max_epochs": 2}).fit(x, y)
    assert tabnet.predict(x).shape == (40,) and tabnet.explain(x)[0].shape == x.shape
    classifier = MechanismClassifier(**SMALL).fit(x, y)
    assert classifier.predict(x).shape == (40,)
    assert len(classifier.explain(x, True)) == 4
    assert DeepInsight(resolution=4, embedding="pca").fit_transform(x).shape == (40, 4, 4, 3)
