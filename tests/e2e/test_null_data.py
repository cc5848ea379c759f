"""Labels that have nothing to do with the profiles: an honest score is no better than chance."""

import ml_collections
import numpy as np
import pytest

from moa_jax import config as configuration
from moa_jax.command import run
from moa_jax.configs import (
    deepinsight_efficientnet_b3,
    nn_tabnet,
    simple_nn,
    three_stage_nn,
    two_heads_resnet,
)
from moa_jax.data.dataset import Dataset, Targets
from moa_jax.recipes import RECIPES
from moa_jax.store.predictions import Predictions
from moa_jax.store.workdir import Workdir

COMPOUNDS, WELLS, GENES, TARGETS, SHARE = 20, 24, 30, 5, 0.2


def smoke(config, **fields) -> ml_collections.ConfigDict:
    """Returns the smoke size of a configuration, honest and on one device."""
    values = config.get_config("smoke").to_dict()
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
    ],
)
def test_an_honest_score_on_null_data_is_no_better_than_chance(dataset, tmp_path, config):
    config = config()
    ((name, _),) = config.models.items()
    run.train(config, Workdir(tmp_path), dataset)
    treated = ~dataset.is_control
    labels, drugs = dataset.targets.values[treated], dataset.drug_id[treated]
    probabilities = Predictions.read(tmp_path / name / "oof.parquet").values
    constant = labels.mean(0)
    gain, spread = gain_over(constant, labels, probabilities, drugs)
    assert gain < 3 * spread, f"gain {gain:.4f}, chance {spread:.4f}"


def gain_over(constant, labels, probabilities, drugs):
    """Returns by how much predictions beat a constant, and what chance makes of it.

    Wells of a compound have the same labels, so that these are drawn once per compound: where the
    predictions know nothing of them, the gain has an expectation below 0 and this deviation.
    """
    logs = np.log(np.clip(np.stack([probabilities, 1 - probabilities]), 1e-15, 1))
    found, variances = [], []
    for drug in np.unique(drugs):
        own = drugs == drug
        positive, negative = logs[:, own].mean(1) - np.log([constant, 1 - constant])
        found.append(np.where(labels[own][0], positive, negative))
        variances.append(constant * (1 - constant) * (positive - negative) ** 2)
    return np.mean(found), np.sqrt(np.sum(variances)) / np.size(found)
