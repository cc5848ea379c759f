"""What the report shows of a run: records read from the files of its work folder."""

from __future__ import annotations

import collections
import dataclasses
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from moa_jax.blend import stored_weights
from moa_jax.report import answers_record, findings
from moa_jax.report.answers_record import Answers
from moa_jax.report.findings import Findings
from moa_jax.report.original import is_original_data
from moa_jax.report.stage_record import FoldScore, MemberRecord, StageRecord
from moa_jax.store import files
from moa_jax.store.model_files import ENSEMBLE, METRICS

# The recipe of a model whose predictions come from elsewhere.
FROM_FILE = "from a file"


@dataclasses.dataclass(frozen=True)
class Switch:
    """A fidelity switch: its value here and in the original."""

    name: str
    value: Any
    original: Any

    @property
    def changed(self) -> bool:
        return self.value != self.original


@dataclasses.dataclass(frozen=True)
class ModelRecord:
    """One model of the blend.

    Attributes:
      name: its name in the configuration.
      recipe: its recipe.
      scores: out-of-fold log loss by convention, see `metrics.conventions`.
      convention: the one that the recipe's original prints.
      recorded: treated-row score that the original recorded on its own data.
      seconds: time for all of its stages.
      switches: its fidelity switches.
      notes: sentences about what the data made different.
      split: what its folds keep whole and which compounds they part, see `recipes.notes`.
      stages: its stages in the order of training.
      reported: the stage whose out-of-fold predictions are the model's; None for the last one.
      is_ensemble: whether they are a mean of members that were chosen among many, each of sizes and
        rates of its own.
    """

    name: str
    recipe: str | None = None
    scores: Mapping[str, float] = dataclasses.field(default_factory=dict)
    convention: str | None = None
    recorded: float | None = None
    seconds: float | None = None
    switches: tuple[Switch, ...] = ()
    notes: tuple[str, ...] = ()
    split: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    stages: tuple[StageRecord, ...] = ()
    reported: str | None = None
    is_ensemble: bool = False

    def is_original(self) -> bool:
        """Tells whether it is one of the original's, whose conventions then matter."""
        return bool(self.convention or self.recorded)


@dataclasses.dataclass(frozen=True)
class BlendRecord:
    """The blend of all models.

    Attributes:
      method: `fixed`, `slsqp`, `tpe` or `per_target`.
      weights: weight by model; for weights of each target their mean.
      corners: for weights of each target, how many of them are 0 and how many 1, by model.
      score: the reported log loss: the nested one of an honest run, else `loss`.
      conventions: the same in the original's conventions, see `metrics.conventions`.
      loss: log loss on the rows that the weights were searched on.
      nested_loss: log loss of rows under weights that never saw them; None for fixed weights.
      nested_weights: weight by model, for each part of the nested score.
      mean: what the blend is the weighted mean of, see `BlendConfig`.
      prior: how much was expected of equal weights, see `BlendConfig`.
      trials, found_sum: for `tpe`, trials and the sum of the weights before they were normalised.
      best_model, best_model_loss: the best single model.
      rows: rows that were scored.
      splits: models by what their folds keep whole; their scores compare within one.
      left_out: optional models that took no part, and why.
    """

    method: str | None = None
    weights: Mapping[str, float] = dataclasses.field(default_factory=dict)
    corners: Mapping[str, tuple[int, int]] = dataclasses.field(default_factory=dict)
    score: float | None = None
    conventions: Mapping[str, float] = dataclasses.field(default_factory=dict)
    loss: float | None = None
    nested_loss: float | None = None
    nested_weights: tuple[Mapping[str, float], ...] = ()
    mean: str = "probabilities"
    prior: float = 0.0
    trials: int | None = None
    found_sum: float | None = None
    best_model: str | None = None
    best_model_loss: float | None = None
    rows: int | None = None
    splits: Mapping[str, Sequence[str]] = dataclasses.field(default_factory=dict)
    left_out: Mapping[str, str] = dataclasses.field(default_factory=dict)

    def kept_whole(self) -> str:
        """Returns what the folds of the models keep whole, in a few words."""
        names = [f"{whole} of {', '.join(models)}" for whole, models in self.splits.items()]
        if len(names) == 1:
            (whole,) = self.splits
            known = {"rows": "folds made row by row", "unknown": "folds unknown"}
            return known.get(whole, f"folds keep {whole} whole")
        return f"unlike folds: whole are {'; '.join(names)}" if names else ""

    @property
    def longest(self) -> float:
        """The weight that a bar of full length stands for."""
        return max([1.0, *self.weights.values()])

    def nested_range(self, model: str) -> tuple[float, float]:
        """Returns the smallest and the largest weight of the model over the nested parts."""
        found = [weights[model] for weights in self.nested_weights]
        return min(found), max(found)


@dataclasses.dataclass(frozen=True)
class Report:
    """Everything the page shows.

    Attributes:
      name: the work folder's name.
      submission: path of the submission, None if there is none.
      honest: whether no row influenced its own score.
      config: the resolved configuration, nested.
      hash: hash of its fields that change numbers.
      command: the command line.
      data: sizes of what the run read, as in `config.json`.
      environment: software, devices and strategy, as in `environment.json`.
      blend: the blend, None before there is one.
      models: the models in the configuration's order, those from files last.
      findings: what is known of predictions and training.
      answers: what is said of compounds and mechanisms, and how good that is.
      original_data: whether the data are the competition's, so that its scores compare.
      notes: sentences about what was absent.
    """

    name: str
    submission: str | None
    honest: bool
    config: Mapping[str, Any]
    hash: str | None
    command: str | None
    data: Mapping[str, Any]
    environment: Mapping[str, Any]
    blend: BlendRecord | None
    models: tuple[ModelRecord, ...]
    findings: Findings
    answers: Answers
    original_data: bool
    notes: tuple[str, ...]

    def data_caption(self) -> str:
        """Returns what the data are, in a few words."""
        if self.data.get("source") == "simulated":
            return "Data, simulated"
        folder = self.config.get("data", {}).get("folder")
        return f"Data of {folder}" if folder else "Data"

    def from_files(self) -> tuple[str, ...]:
        """Returns the names of the models whose predictions come from elsewhere."""
        return tuple(model.name for model in self.models if model.recipe == FROM_FILE)

    def is_original(self) -> bool:
        """Tells whether some model is one of the original's."""
        return any(model.is_original() for model in self.models)

    def has_nested_stages(self) -> bool:
        return any(stage.nested for model in self.models for stage in model.stages)

    def model_notes(self) -> Mapping[str, list[str]]:
        """Returns the models' own notes, each with the models that have it."""
        found = collections.defaultdict(list)
        for model in self.models:
            for note in model.notes:
                found[note].append(model.name)
        return dict(found)

    def device_counts(self) -> Mapping[str, int]:
        return collections.Counter(self.environment.get("devices", ()))


def collect(workdir: str | Path) -> Report:
    """Reads what the page shows; whatever a run has not written is left out.

    Raises:
      UserError: the work folder has no `config.json`, or a file in it is damaged.
    """
    workdir = Path(workdir)
    path = workdir / "config.json"
    stored = files.read_json(path)
    with files.parsing(path):
        config = stored["config"]
        data = stored.get("data", {})
        names, others = config.get("models", {}), config.get("blend", {}).get("files", {})
    found = findings.collect(workdir)
    models = tuple(_model(workdir, name, found.scores) for name in names)
    models += tuple(ModelRecord(name, FROM_FILE, found.scores.get(name, {})) for name in others)
    submission, blend = workdir / "submission.csv", _blend(workdir, config)
    return Report(
        name=workdir.resolve().name,
        submission=str(submission) if submission.exists() else None,
        honest=bool(config.get("honest")),
        config=config,
        hash=stored.get("hash"),
        command=stored.get("command"),
        data=data,
        environment=_read(workdir / "environment.json"),
        blend=blend,
        models=models,
        findings=found,
        answers=answers_record.collect(workdir),
        original_data=is_original_data(
            data, {target.name: target.positives for target in found.targets}
        ),
        notes=(*_absent_data(data), *_unfinished(models), *_left_out(blend)),
    )


def _model(workdir: Path, name: str, scores: Mapping[str, Mapping[str, float]]) -> ModelRecord:
    path = workdir / name / METRICS
    metrics = _read(path)
    with files.parsing(path):
        original = metrics.get("faithful", {})
        return _pick(
            ModelRecord,
            metrics,
            name=name,
            scores=scores.get(name, metrics.get("scores", {})),
            switches=tuple(
                Switch(field, value, original.get(field, value))
                for field, value in metrics.get("fidelity", {}).items()
            ),
            notes=tuple(metrics.get("notes", [])),
            stages=tuple(_stage(workdir / name / stage) for stage in metrics.get("stages", [])),
            is_ensemble=os.path.lexists(workdir / name / ENSEMBLE),
        )


def _stage(folder: Path) -> StageRecord:
    path = folder / METRICS
    metrics = _read(path)
    with files.parsing(path):
        return _pick(
            StageRecord,
            metrics,
            name=folder.name,
            members=tuple(_pick(MemberRecord, member) for member in metrics.get("members", [])),
            fold_scores=tuple(_pick(FoldScore, score) for score in metrics.get("fold_scores", [])),
        )


def _blend(workdir: Path, config: Mapping[str, Any]) -> BlendRecord | None:
    path = workdir / stored_weights.FILE
    if not os.path.lexists(path):
        return None
    names = [*config.get("models", {}), *config.get("blend", {}).get("files", {})]
    stored = stored_weights.read(workdir, names)
    with files.parsing(path):
        return _blend_record(stored)


def _blend_record(stored: Mapping[str, Any]) -> BlendRecord:
    nested, tpe = stored.get("nested", {}), stored.get("tpe", {})
    weights, corners = {}, {}
    for name, weight in stored.get("weights", {}).items():
        if isinstance(weight, Mapping):
            values = list(weight.values())
            weights[name] = sum(values) / len(values)
            corners[name] = values.count(0), values.count(1)
        else:
            weights[name] = weight
    return _pick(
        BlendRecord,
        stored,
        weights=weights,
        corners=corners,
        nested_loss=nested.get("loss"),
        nested_weights=tuple(nested.get("weights", [])),
        trials=tpe.get("trials"),
        found_sum=tpe.get("sum"),
    )


def _absent_data(data: Mapping[str, Any]) -> Iterable[str]:
    if data.get("genes") == 0:
        yield "The data have no gene expression columns (g-); what builds on them was left out."
    if data.get("cells") == 0:
        yield "The data have no cell viability columns (c-); what builds on them was left out."
    if data.get("nonscored") == 0:
        yield "The data have no non-scored targets."
    for kind, cells in data.get("not_measured", {}).items():
        yield (
            f"Not measured: {cells:,} label{'s' if cells != 1 else ''} of {kind} targets. Losses, "
            f"scores and weights leave {'them' if cells != 1 else 'it'} out."
        )
    if data.get("test_rows") == 0:
        yield "There was no test file when the models were fitted: no test rows, no submission."


def _unfinished(models: Sequence[ModelRecord]) -> Iterable[str]:
    for model in models:
        if not model.scores and model.recipe == FROM_FILE:
            yield f"The file of {model.name} has no out-of-fold predictions: it has no score."
        elif not model.scores:
            yield f"The model {model.name} is not finished."


def _left_out(blend: BlendRecord | None) -> Iterable[str]:
    for name, reason in blend.left_out.items() if blend else ():
        yield f"The model {name} is left out: {reason}."


def _read(path: Path) -> Mapping[str, Any]:
    return files.read_json_object(path) if os.path.lexists(path) else {}


def _pick(cls: type, values: Mapping[str, Any], **replaced: Any) -> Any:
    names = {field.name for field in dataclasses.fields(cls)}
    return cls(**{name: value for name, value in values.items() if name in names} | replaced)
