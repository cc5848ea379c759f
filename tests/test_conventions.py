"""Conventions of JAX: what is asked of the code around stops neither command nor estimators."""

import os
import signal
import subprocess
import sys
import warnings

import jax
import numpy as np
import pytest
from test_estimator import TINY
from test_mechanism_classifier import TINY as SMALL

from moa_jax import DeepInsight, MechanismClassifier, TabNetClassifier
from moa_jax.command import entry
from moa_jax.errors import UserError
from moa_jax.training import conventions

OTHERS = {
    "jax_numpy_dtype_promotion": "strict",
    "jax_numpy_rank_promotion": "raise",
    "jax_disable_jit": True,
    "jax_transfer_guard": "disallow_explicit",
    "jax_debug_infs": True,
    "jax_default_prng_impl": "rbg",
}


@pytest.fixture
def others():
    """Has JAX refuse what it otherwise does by itself."""
    before = {name: jax.config.values[name] for name in OTHERS}
    for name, value in OTHERS.items():
        jax.config.update(name, value)
    yield
    for name, value in before.items():
        jax.config.update(name, value or "allow" if name == "jax_transfer_guard" else value)


def found():
    return {name: getattr(jax.config, name) for name in OTHERS}


def test_they_are_the_usual_ones_within(others):
    with conventions.usual():
        assert found() == {
            "jax_numpy_dtype_promotion": "standard",
            "jax_numpy_rank_promotion": "allow",
            "jax_disable_jit": False,
            "jax_transfer_guard": "allow",
            "jax_debug_infs": False,
            "jax_default_prng_impl": "threefry2x32",
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


def test_a_mesh_of_the_callers_own():
    x = np.random.default_rng(0).normal(size=(40, 3))
    fitted = TabNetClassifier(**TINY | {"max_epochs": 2}).fit(x, x[:, 0] > 0)
    mesh = jax.make_mesh((len(jax.devices()),), ("rows",))
    with jax.set_mesh(mesh):
        other = TabNetClassifier(**TINY | {"max_epochs": 2}).fit(x, x[:, 0] > 0)
        np.testing.assert_array_equal(other.predict_proba(x), fitted.predict_proba(x))
        assert jax.sharding.get_abstract_mesh() == mesh.abstract_mesh


def test_who_is_traced_is_told():
    x = np.random.default_rng(0).normal(size=(8, 3))
    images = DeepInsight(resolution=4, embedding="pca").fit(x)
    with pytest.raises(UserError, match="found a function that JAX traces .*call it outside"):
        jax.jit(lambda: images.transform(x))()
    for traced in (jax.jit(images.transform), jax.vmap(lambda row: images.transform(row[None]))):
        with pytest.raises(ValueError, match="X: expected numbers, found an array that JAX traces"):
            traced(x)


def test_a_fork_is_told_and_does_not_wait_for_ever():
    with conventions.usual():
        pass
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # JAX's own, which nobody sees in a worker
        child = os.fork()
    if child == 0:
        signal.alarm(30)
        try:
            with conventions.usual():
                os._exit(1)
        except UserError as error:
            os._exit(0 if "forked" in str(error) else 1)
        finally:
            os._exit(1)
    assert os.waitpid(child, 0)[1] == 0


def test_nothing_is_computed_before_the_first_settings():
    """Such as who the other processes are, which JAX must be told before its devices are there."""
    program = (
        "import jax\n"
        "from moa_jax.training import conventions\n"
        "with conventions.usual():\n"
        "    jax.config.update('jax_num_cpu_devices', 3)\n"
        "    assert jax.device_count() == 3\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
