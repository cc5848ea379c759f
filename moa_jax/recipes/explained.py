"""Pairs of a row and a mechanism, explained by all networks of a model together."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from absl import logging

from moa_jax.data.dataset import Dataset
from moa_jax.recipes import finished, system
from moa_jax.recipes.attribution_baseline import Baseline, Ends
from moa_jax.recipes.context import Context
from moa_jax.recipes.design import StageDesign
from moa_jax.recipes.features import Passage
from moa_jax.recipes.recipe import Recipe
from moa_jax.recipes.stage_predictions import StagePredictions
from moa_jax.recipes.stored import StoredSets
from moa_jax.store import files
from moa_jax.store.predictions import Predictions
from moa_jax.training.attribution import Found, Lines, mean_gradients
from moa_jax.training.members import MemberId, num_batches
from moa_jax.training.predict import Predictor

# What the gradients of one call may take, and how many batches it has at most.
MOST_BYTES, MOST_STEPS = 256 * 2**20, 4


class Explained(NamedTuple):
    """Attributions of some pairs.

    Attributes:
      pairs: [P] which pairs.
      features: [P] attributions by the feature's name.
      change: [P] log odds at the row less those at the baseline.
    """

    pairs: np.ndarray
    features: Mapping[str, np.ndarray]
    change: np.ndarray


class Explainer:
    """The networks of a finished model whose logits make its predictions, ready to explain."""

    def __init__(self, recipe: Recipe, context: Context, baseline: Baseline, steps: int):
        """Loads them.

        Args:
          recipe: the model's system.
          context: where it was fitted.
          baseline: what rows are compared with.
          steps: nodes of the integral.

        Raises:
          UserError: a file is missing, or is not as it was written.
        """
        outcome = system.finished_outcome(recipe, context)
        self._context, self._baseline = context, baseline
        self._earlier = None
        if any(design.features.predictions_of for design in outcome.designs):
            self._earlier = system.trained(outcome.designs, context, outcome.weights)
        none = {design.name: np.zeros((1, 1)) for design in outcome.designs}
        shares = {
            design.name: float(outcome.of({**none, design.name: np.ones((1, 1))}).item())
            for design in outcome.designs
        }
        last = [design for design in outcome.designs if shares[design.name]]
        self._networks = [
            _Networks(design, context, outcome.weights, shares[design.name], steps, len(last))
            for design in last
        ]

    def __call__(self, rows: Dataset, pairs: np.ndarray) -> Iterator[Explained]:
        """Yields the attributions of pairs [P, 2] of a row and a target, part by part."""
        order = np.argsort(pairs[:, 0], kind="stable")
        size = min(networks.pairs_at_once(len(pairs)) for networks in self._networks)
        for start in range(0, len(pairs), size):
            own = order[start : start + size]
            kept, numbers = np.unique(pairs[own, 0], return_inverse=True)
            ends = Ends(rows.take(kept), self._baseline)
            passage = Passage(ends.every)
            if self._earlier is not None:
                passage.predictions.update(self._predicted(passage.rows))
            features: dict[str, np.ndarray] = {}
            change = np.zeros(len(own))
            for networks in self._networks:
                of_stage = np.stack([numbers, pairs[own, 1]], axis=1)
                change += networks.add(features, ends, passage, of_stage, size)
            yield Explained(own, features, change)

    def _predicted(self, rows: Dataset) -> dict[str, StagePredictions]:
        """Returns what earlier stages predict of any number of rows."""
        assert self._earlier is not None
        size = self._context.parallel.predict_rows
        parts = [
            self._earlier(rows.take(np.arange(start, min(start + size, len(rows)))))
            for start in range(0, len(rows), size)
        ]

        def joined(name: str) -> StagePredictions:
            each = [part[name] for part in parts]
            nested = {
                blocks: np.concatenate([one.nested[blocks] for one in each])
                for blocks in each[0].nested
            }
            return StagePredictions(np.concatenate([one.whole for one in each]), nested)

        return {name: joined(name) for name in parts[0]}


class _Networks:
    """The networks of one stage that have a say in a model's predictions."""

    def __init__(
        self,
        design: StageDesign,
        context: Context,
        weights: Callable[[str, Sequence[MemberId]], np.ndarray],
        share: float,
        steps: int,
        num_stages: int,
    ):
        every, outputs = finished.trained_members(context, design)
        of = weights(design.name, every)
        every = [member for member, weight in zip(every, of, strict=True) if weight]
        self._weights = share * of[of > 0] / of.sum()
        self._design, self._stored = design, StoredSets(design, context, every)
        self._sets = self._stored.numbers(every)
        forward = design.forward(outputs)
        self._batch, path = forward.rows_at_once, context.folder / design.name / finished.METRICS
        self._width = files.read_json(path)["inputs"]
        reading = design.reading(forward.network)
        name = f"{context.model}/{design.name}: attributions"
        self._predictor = Predictor(
            name,
            forward,
            context.folder / design.name,
            every,
            context.devices,
            design.member_data(
                design.features.member_data(self._stored(design.name), self._sets, ()), every
            ),
            share=1 / num_stages,
            program=mean_gradients(forward.network, reading, steps),
        )
        self._predicted: Sequence[str] = ()
        if design.features.predictions_of:
            path = context.folder / design.features.predictions_of / finished.OOF
            context.manifest.verify(path)
            self._predicted = Predictions.read(path).targets
        logging.info("%s: %d networks, %d steps", name, len(every), steps)

    def pairs_at_once(self, num_pairs: int) -> int:
        """Returns how many pairs a call explains, a multiple of a batch's."""
        most = MOST_BYTES // (len(self._weights) * self._width * 8 * self._batch)
        wanted = num_batches(num_pairs, self._batch)
        return self._batch * max(1, min(wanted, most, MOST_STEPS))

    def add(
        self,
        features: dict[str, np.ndarray],
        ends: Ends,
        passage: Passage,
        pairs: np.ndarray,
        size: int,
    ) -> np.ndarray:
        """Adds the attributions of pairs to `features`, and returns the change of log odds [P].

        Args:
          features: [P] by the feature's name.
          ends: rows, and the baseline.
          passage: the rows of `ends`, with what earlier stages predict of them.
          pairs: [P, 2] at most `size`.
          size: pairs that every call is padded to.
        """
        design = self._design
        table = ends.joined(design.features.table(passage, design.name, self._stored))
        origins = design.features.origins(ends, table, design.name, self._stored, self._predicted)
        padded = np.concatenate([table[:-1], np.repeat(table[:1], size - len(ends.rows), axis=0)])
        flat = np.zeros((size, 2), np.int32)
        flat[: len(pairs)] = pairs
        every = flat.reshape(-1, self._batch, 2)
        width = padded.shape[-1]
        gradients = np.zeros((len(origins), len(pairs), width))
        change = np.zeros(len(pairs))
        found: Found
        for group, found in self._predictor(
            Lines(padded, table[-1]), lambda group: np.stack([every] * len(group)), len(every)
        ):
            by_member = found.gradients.reshape(len(group), size, -1)[:, : len(pairs)]
            changes = found.change.reshape(len(group), size)[:, : len(pairs)]
            weights = self._weights[list(group)]
            change += weights @ changes.astype(np.float64)
            number = self._sets[list(group)] if len(origins) > 1 else np.zeros(len(group), int)
            for index in range(len(origins)):
                own = number == index
                if own.any():
                    gradients[index] += np.einsum(
                        "m,mpf->pf", weights[own], by_member[own].astype(np.float64)
                    )
        for columns, of_set in zip(origins, gradients, strict=True):
            kept = of_set[:, : columns.shape[1]]
            for name, values in columns.carry(kept, pairs[:, 0]).items():
                features[name] = features.get(name, 0.0) + values
        return change
