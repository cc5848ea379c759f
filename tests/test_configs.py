"""Tests of the two winning blends, and of those for people's own data, as configurations."""

import importlib

import pytest

from moa_jax import config as configuration
from moa_jax.errors import UserError
from moa_jax.recipes import RECIPES
from moa_jax.training.means import MEANS

PARTS = {
    "best_cv": {
        "three_stage_nn": ("three_stage_nn", "ten_folds"),
        "two_heads_resnet": ("two_heads_resnet", "v2"),
        "efficientnet_b3": ("deepinsight_efficientnet_b3", ""),
        "resnest_v1": ("deepinsight_resnest", ""),
        "resnest_v2": ("deepinsight_resnest", "v2"),
    },
    "best_lb": {
        "three_stage_nn": ("three_stage_nn", ""),
        "nn_tabnet": ("nn_tabnet", ""),
        "simple_nn_old": ("simple_nn", "old"),
        "simple_nn_new": ("simple_nn", "new"),
        "two_heads_resnet": ("two_heads_resnet", ""),
        "efficientnet_b3": ("deepinsight_efficientnet_b3", ""),
        "resnest_v2": ("deepinsight_resnest", "v2"),
    },
}


def load(name, *variant):
    module = importlib.import_module(f"moa_jax.configs.{name}")
    return configuration.parse(module.get_config(*variant).to_dict(), RECIPES)


@pytest.mark.parametrize("size", ["", "sample", "smoke"])
@pytest.mark.parametrize("blend", PARTS)
def test_every_model_is_that_of_its_own_configuration(blend, size):
    models = load(blend, size).models
    assert set(models) == set(PARTS[blend])
    for name, (config, variant) in PARTS[blend].items():
        assert models[name] == load(config, f"{variant},{size}").models[name]


@pytest.mark.parametrize("size", ["", "sample", "smoke"])
@pytest.mark.parametrize("blend", PARTS)
def test_image_networks_start_from_published_weights_at_full_size_alone(blend, size):
    models = load(blend, size).models.values()
    found = [m.pretrained for m in models if m.recipe == "deepinsight_cnn"]
    assert len(found) >= 2 and set(found) == {"none" if size else "auto"}


def test_published_weights():
    best_cv = load("best_cv").blend
    assert best_cv.method == "slsqp"
    assert best_cv.weights == {
        "three_stage_nn": 0.36704255,
        "two_heads_resnet": 0.0808577,
        "efficientnet_b3": 0.17120266,
        "resnest_v1": 0.10876667,
        "resnest_v2": 0.27213043,
    }
    best_lb = load("best_lb").blend
    assert best_lb.method == "fixed"
    assert best_lb.weights == {
        "three_stage_nn": pytest.approx(0.37 * 0.9),
        "two_heads_resnet": 0.09,
        "simple_nn_new": pytest.approx(0.1 * 0.9),
        "efficientnet_b3": pytest.approx(0.18 * 0.9),
        "resnest_v2": pytest.approx(0.15 * 0.9),
        "nn_tabnet": 0.1,
        "simple_nn_old": 0.09,
    }
    assert sum(best_lb.weights.values()) == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize("name", ["baseline", "profiles", "quickstart"])
def test_blends_of_few_rows_expect_equal_weights(name):
    blend = load(name).blend
    assert (blend.method, blend.mean, blend.prior) == ("slsqp", "log_odds", 3.0)


@pytest.mark.parametrize("mean", [*MEANS, "median"])
def test_a_blend_is_of_a_mean_that_there_is(mean):
    made = importlib.import_module("moa_jax.configs.baseline").get_config().to_dict()
    made["blend"]["mean"] = mean
    if mean in MEANS:
        assert configuration.parse(made, RECIPES).blend.mean == mean
        return
    with pytest.raises(UserError, match="config.blend.mean"):
        configuration.parse(made, RECIPES)


def test_the_blends_tell_the_versions_of_a_model_apart():
    cv, lb = load("best_cv").models, load("best_lb").models
    assert (cv["three_stage_nn"].folds, lb["three_stage_nn"].folds) == (10, 5)
    assert (cv["two_heads_resnet"].version, lb["two_heads_resnet"].version) == ("v2", "v1")
    assert lb["simple_nn_old"].original_split != lb["simple_nn_new"].original_split
