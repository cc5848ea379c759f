"""Pairs of a row and a mechanism, explained by all networks of a model together."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from absl import logging

from moa_jax.data.dataset import Dataset
from moa_jax.recipes import finished, prediction, system
from moa_jax.recipes.attribution_baseline import Baseline, Ends
from moa_jax.recipes.context import Context
from moa_jax.recipes.design import StageDesign
from moa_jax.recipes.features import Passage
from moa_jax.recipes.origins import PREDICTION, Traced
from moa_jax.recipes.outcome import alike
from moa_jax.recipes.recipe import Recipe
from moa_jax.recipes.stage_predictions import StagePredictions
from moa_jax.recipes.stored import StoredSets
from moa_jax.store import files, model_files
from moa_jax.store.predictions import Predictions
from moa_jax.training.attribution import Found, Lines, logits_of, mean_gradients
from moa_jax.training.members import MemberId, num_batches
from moa_jax.training.predict import Predictor

# What the gradients of one call may take, and how many batches it has at most.
MOST_BYTES, MOST_STEPS = 256 * 2**20, 4
# A prediction that differs by a smaller share of itself does not differ.
SMALLEST_CHANGE = 1e-3


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
    """The networks of a finished model, ready to explain its predictions."""

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
        self._last: list[_Networks] = []
        self._earlier: list[_Networks] = []
        for design in outcome.designs:
            share = outcome.shares.get(design.name, 0) / sum(outcome.shares.values())
            of = outcome.weights if share else alike
            networks = _Networks(design, context, of, share, steps, len(outcome.designs))
            (self._last if share else self._earlier).append(networks)
        self._predict = None
        if self._earlier:
            self._predict = prediction.trained(outcome.designs, context, outcome.weights)

    def __call__(self, rows: Dataset, pairs: np.ndarray) -> Iterator[Explained]:
        """Yields the attributions of pairs [P, 2] of a row and a target, part by part."""
        order = np.argsort(pairs[:, 0], kind="stable")
        every = [*self._last, *self._earlier]
        size = min(networks.pairs_at_once(len(pairs)) for networks in every)
        for start in range(0, len(pairs), size):
            own = order[start : start + size]
            kept, numbers = np.unique(pairs[own, 0], return_inverse=True)
            ends = Ends(rows.take(kept), self._baseline)
            passage = Passage(ends.every)
            if self._predict is not None:
                passage.predictions.update(self._predicted(passage.rows))
            part = _Part(ends, passage, numbers, size, {})
            change, targets = np.zeros(len(own)), pairs[own, 1]
            # All programs are compiled before the first of them is waited for.
            asked = [one.asked(part, np.eye(one.num_outputs)[targets]) for one in self._last]
            for networks, question in zip(self._last, asked, strict=True):
                change += networks.add(part, question)
            for networks in reversed(self._earlier):
                networks.lead_back(part)
            yield Explained(own, part.features, change)

    def _predicted(self, rows: Dataset) -> dict[str, StagePredictions]:
        """Returns what earlier stages predict of any number of rows."""
        assert self._predict is not None
        size = self._context.parallel.predict_rows
        parts = [
            self._predict(rows.take(np.arange(start, min(start + size, len(rows)))))
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


class _Part(NamedTuple):
    """Pairs that are explained together.

    Attributes:
      ends: their rows, and the baseline.
      passage: the same rows, with what earlier stages predict of them.
      rows: [P] the row of each pair.
      size: pairs that every call is padded to.
      features: [P] attributions so far, by the feature's name.
    """

    ends: Ends
    passage: Passage
    rows: np.ndarray
    size: int
    features: dict[str, np.ndarray]


class _Question(NamedTuple):
    """What the networks of a stage are asked about a part.

    Attributes:
      lines: where lines begin and end, and what is explained there.
      pairs: [steps, batch, 2] of a row and one of the weights.
      origins: where what they read comes from, of each set.
    """

    lines: Lines
    pairs: np.ndarray
    origins: list[Traced]


class _Networks:
    """The networks of one stage, with their weights in what they predict together."""

    def __init__(
        self,
        design: StageDesign,
        context: Context,
        weights: Callable[[str, Sequence[MemberId]], np.ndarray],
        share: float,
        steps: int,
        num_stages: int,
    ):
        """Loads those that have a weight.

        Args:
          design: the stage.
          context: where it was fitted.
          weights: of the members in its mean.
          share: its share in the model's predictions; 0 where others read its predictions.
          steps: nodes of the integral.
          num_stages: stages that share the memory.
        """
        every, self.num_outputs = finished.trained_members(context, design)
        of = weights(design.name, every)
        every = [member for member, weight in zip(every, of, strict=True) if weight]
        self._weights = (share or 1.0) * of[of > 0] / of.sum()
        self._design, self._stored = design, StoredSets(design, context, every)
        self._sets = self._stored.numbers(every)
        forward = design.forward(self.num_outputs, context)
        self._batch, path = forward.rows_at_once, context.folder / design.name / model_files.METRICS
        self._width = files.read_json(path)["inputs"]
        name = f"{design.full_name(context)}: attributions"
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
            program=mean_gradients(
                forward.network,
                design.reading(forward.network),
                steps,
                logits_of if share else forward.probabilities,
            ),
        )
        self._targets = _targets(context, design.name)
        earlier = design.features.predictions_of
        self._predicted = _targets(context, earlier) if earlier else ()
        logging.info("%s: %d networks, %d steps", name, len(every), steps)

    def pairs_at_once(self, num_pairs: int) -> int:
        """Returns how many pairs a call explains, a multiple of a batch's."""
        most = MOST_BYTES // (len(self._weights) * self._width * 8 * self._batch)
        wanted = num_batches(num_pairs, self._batch)
        return self._batch * max(1, min(wanted, most, MOST_STEPS))

    def asked(self, part: _Part, wanted: np.ndarray) -> _Question:
        """Returns what `add` is to find, the program of which is compiled from now on.

        Args:
          part: the pairs.
          wanted: [P, targets] weights of the outputs.
        """
        design, count = self._design, len(part.rows)
        table = part.ends.joined(design.features.table(part.passage, design.name, self._stored))
        origins = design.features.origins(
            part.ends, table, design.name, self._stored, self._predicted
        )
        # All calls are of one size: rows and weights that no pair asks for are zeros.
        ends = _padded(table[:-1], part.size)
        lines = Lines(ends, table[-1], _padded(wanted, part.size).astype(table.dtype))
        numbers = np.stack([part.rows, np.arange(count)], axis=1).astype(np.int32)
        pairs = _padded(numbers, part.size).reshape(-1, self._batch, 2)
        self._predictor.begin(lines, lambda group: np.stack([pairs] * len(group)), len(pairs))
        return _Question(lines, pairs, origins)

    def add(self, part: _Part, question: _Question) -> np.ndarray:
        """Adds attributions of sums of outputs, and returns how these change, [P]."""
        lines, pairs, origins = question
        count = len(part.rows)
        gradients = np.zeros((len(origins), count, lines.table.shape[-1]))
        change = np.zeros(count)
        found: Found
        for group, found in self._predictor(
            lines, lambda group: np.stack([pairs] * len(group)), len(pairs)
        ):
            by_member = found.gradients.reshape(len(group), part.size, -1)[:, :count]
            weights = self._weights[list(group)]
            change += weights @ found.change.reshape(len(group), -1)[:, :count].astype(np.float64)
            sets = self._sets[list(group)] if len(origins) > 1 else np.zeros(len(group), int)
            for index in np.unique(sets):
                own = sets == index
                gradients[index] += np.tensordot(weights[own], by_member[own], axes=1)
        for columns, of_set in zip(origins, gradients, strict=True):
            kept = of_set[:, : columns.shape[1]]
            for name, values in columns.carry(kept, part.rows).items():
                part.features[name] = part.features.get(name, 0.0) + values
        return change

    def lead_back(self, part: _Part) -> None:
        """Leads the attributions of this stage's predictions back to what it reads itself.

        A prediction's attribution is shared as its difference between the row and the baseline is
        explained. What of it that leaves, because predictions at the mean treatment are not the
        mean of those at all treatments, or hardly differ, keeps a name of its own.
        """
        predicted = part.passage.predictions[self._design.name]
        if predicted.nested:  # each later network reads those of others
            return
        values = part.ends.joined(predicted.whole)
        ends, start = values[:-1][part.rows], values[-1]
        names = [PREDICTION.format(name) for name in self._targets]
        none = np.zeros(len(part.rows))
        told = np.stack([part.features.pop(name, none) for name in names], axis=1)
        differs = np.abs(ends - start) > SMALLEST_CHANGE * np.maximum(ends, start)
        slopes = np.divide(told, ends - start, out=np.zeros_like(told), where=differs)
        change = self.add(part, self.asked(part, slopes))
        part.features[f"predictions of stage {self._design.name}"] = told.sum(axis=1) - change


def _targets(context: Context, stage: str) -> tuple[str, ...]:
    path = context.folder / stage / model_files.OOF
    context.manifest.verify(path)
    return Predictions.read(path).targets


def _padded(array: np.ndarray, size: int) -> np.ndarray:
    return np.concatenate([array, np.zeros((size - len(array), *array.shape[1:]), array.dtype)])
