"""A small run that answers: made-up predictions of two models, what they teach, and its files."""

import dataclasses

import numpy as np

from moa_jax.config import AnswersConfig
from moa_jax.data import simulate
from moa_jax.engine import answers
from moa_jax.store import files
from moa_jax.store.predictions import Predictions

WEIGHTS = {"a": 0.5, "b": 0.5}
SPLITS = {"compounds": ["a"], "rows": ["b"]}
CONFIG = AnswersConfig(listed=2)


@dataclasses.dataclass(frozen=True)
class AnsweredRun:
    """Data, predictions and what they teach.

    Attributes:
      dataset: 300 training rows with five mechanisms, 40 to predict in compounds of three.
      models: out-of-fold predictions of two models, their mean, test predictions, their mean.
      learned: what the out-of-fold ones teach.
    """

    dataset: object
    models: tuple
    learned: object

    def write(self, path):
        """Writes what a blend writes of its answers, and enough for a report; returns the path."""
        self.learned.write(path)
        _, _, test, blended = self.models
        answers.write_test(path / "blend", self.learned, CONFIG, self.dataset.test, blended, test)
        models = {name: {"recipe": "profile_nn"} for name in WEIGHTS}
        data = {"source": "simulated", **self.dataset.description()}
        files.write_json(path / "config.json", {"config": {"models": models}, "data": data})
        return path


def make():
    data = simulate.make(rows=300, seed=5, genes=4, cells=2, scored=5, nonscored=0, test_rows=40)
    labels = (np.random.default_rng(1).random((300, 5)) < 0.1).astype(np.uint8)
    drugs = np.array([f"d{i // 3}" for i in range(40)], object)
    data = dataclasses.replace(
        data,
        scored=dataclasses.replace(data.scored, values=labels),
        test=dataclasses.replace(data.test, drug_id=drugs),
    )
    treated, names = ~data.is_control, data.targets.names
    truth = np.random.default_rng(9).random((40, 5)) < 0.2
    ids = data.ids[treated]
    oof = {m: predicted(labels[treated], names, ids, seed) for seed, m in enumerate("ab")}
    test = {m: predicted(truth, names, data.test.ids, 5 + seed) for seed, m in enumerate("ab")}
    models = oof, mean(oof), test, mean(test)
    return AnsweredRun(data, models, answers.learn(CONFIG, data, *models[:2], SPLITS, {"b"}, 0))


def predicted(labels, names, ids, seed):
    """Predictions that know the labels, but not well."""
    noise = np.random.default_rng(seed).normal(size=labels.shape)
    return Predictions(ids, names, 1 / (1 + np.exp(3.5 - 8 * labels - noise)), np.abs(noise))


def mean(of):
    first, second = of.values()
    return dataclasses.replace(first, values=(first.values + second.values) / 2)
