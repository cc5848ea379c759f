"""Labels that have nothing to do with the profiles: an honest score is no better than chance."""

import ml_collections
import numpy as np
import pytest

from moa_jax import config as configuration
from moa_jax.configs import (
    baseline,
    deepinsight_efficientnet_b3,
    nn_tabnet,
    simple_nn,
    three_stage_nn,
    two_heads_resnet,
)
from moa_jax.data.dataset import Dataset, Targets
from moa_jax.engine import loading, run
from moa_jax.recipes import RECIPES
from moa_jax.store.predictions import Predictions
from moa_jax.store.workdir import Workdir
from moa_jax.training import metrics

COMPOUNDS, WELLS, GENES, TARGETS, SHARE = 20, 24, 30, 5, 0.2


def smoke(config, variant="smoke", **fields) -> ml_collections.ConfigDict:
    """Returns the smoke size of a configuration, honest and on one device."""
    values = config.get_config(variant).to_dict()
    (model,) = [name for name in values["models"] if not name.endswith("_old")]
    values["models"] = {model: {**values["models"][model], **fields}}
    values |= {"honest": True, "parallel": {"strategy": "vmap"}}
    values["blend"]["weights"] = {model: 1.0}
    return configuration.parse(values, RECIPES)


@pytest.fixture(scope="module")
def dataset():
    """Compounds of many wells with a profile of their own, and labels drawn for each compound."""
    generator = np.random.default_rng(5)
    drugs = np.repeat([f"drug{n}" for n in range(COMPOUNDS)], WELLS).astype(object)
    profiles = 3 * generator.normal(size=(COMPOUNDS, GENES)).repeat(WELLS, axis=0)

    def labels(count):
        values = generator.random((COMPOUNDS, count)) < SHARE
        values[generator.integers(COMPOUNDS, size=count), np.arange(count)] = True
        return values.repeat(WELLS, axis=0).astype(np.uint8)

    size = len(drugs)
    return Dataset(
        np.array([f"id{n:04}" for n in range(size)], object),
        tuple(f"g-{n}" for n in range(GENES)),
        (),
        profiles + generator.normal(size=profiles.shape),
        generator.choice([24, 48, 72], size),
        generator.choice(["D1", "D2"], size).astype(object),
        np.arange(size) % 16 == 15,
        scored=Targets(tuple(f"moa{n}" for n in range(TARGETS)), labels(TARGETS)),
        nonscored=Targets(tuple(f"other{n}" for n in range(4)), labels(4)),
        drug_id=drugs,
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    "config",
    [
        pytest.param(lambda: smoke(simple_nn), id="simple_nn"),
        pytest.param(lambda: smoke(three_stage_nn), id="three_stage_nn"),
        pytest.param(lambda: smoke(nn_tabnet), id="nn_tabnet"),
        pytest.param(lambda: smoke(two_heads_resnet, freeze_loop="off"), id="two_heads_resnet"),
        pytest.param(
            lambda: smoke(
                deepinsight_efficientnet_b3, network="efficientnet_b0", resolution=32, folds=4
            ),
            id="efficientnet",
        ),
        pytest.param(lambda: smoke(baseline, "logistic,smoke"), id="logistic"),
        pytest.param(lambda: smoke(baseline, "trees,smoke"), id="trees"),
    ],
)
def test_an_honest_score_on_null_data_is_no_better_than_chance(dataset, tmp_path, config):
    config = config()
    ((name, _),) = config.models.items()
    run.train(loading.settled(config), Workdir(tmp_path), dataset)
    treated = ~dataset.is_control
    labels, drugs = dataset.targets.values[treated], dataset.drug_id[treated]
    probabilities = Predictions.read(tmp_path / name / "oof.parquet").values
    assert share_of_better_draws(labels, probabilities, drugs) > 0.005


def test_a_leak_would_be_seen():
    drugs = np.repeat([f"drug{n}" for n in range(COMPOUNDS)], WELLS)
    labels = (np.random.default_rng(0).random((COMPOUNDS, TARGETS)) < SHARE).repeat(WELLS, axis=0)
    for loss in (0.004, 0.013, 0.14):
        leaking = np.where(labels, np.exp(-loss), 1 - np.exp(-loss))
        assert share_of_better_draws(labels, leaking, drugs) == 0
    blind = np.random.default_rng(1).random((COMPOUNDS, TARGETS)).repeat(WELLS, axis=0)
    assert share_of_better_draws(labels, blind, drugs) > 0.005


def share_of_better_draws(labels, probabilities, drugs):
    """Returns how often labels dealt out anew to the compounds are predicted as well or better.

    Where predictions know nothing of their own labels, the ones they have are a draw like another.
    """
    _, first, compound = np.unique(drugs, return_index=True, return_inverse=True)
    generator = np.random.default_rng(0)

    def loss(order):
        return metrics.mean_log_loss(labels[first[order]][compound], probabilities)

    own = loss(np.arange(len(first)))
    return np.mean([loss(generator.permutation(len(first))) <= own for _ in range(999)])
