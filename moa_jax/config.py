"""Configuration: ConfigDict -> frozen dataclasses, every field, type, range and choice checked."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import ml_collections

from moa_jax.answer_config import AnswersConfig as AnswersConfig
from moa_jax.answer_config import ExplainConfig as ExplainConfig
from moa_jax.blend_config import SUM_TOLERANCE as SUM_TOLERANCE
from moa_jax.blend_config import BlendConfig, PredictionFiles
from moa_jax.data_config import LEVELS_OF_FILES as LEVELS_OF_FILES
from moa_jax.data_config import DataConfig, TreatmentConfig
from moa_jax.errors import UserError
from moa_jax.schema import WIDEST as WIDEST
from moa_jax.schema import build, choice, number
from moa_jax.schema import sized as sized
from moa_jax.schema import suggestion as suggestion
from moa_jax.schema import switch as switch

# Fields that change how a run proceeds but not what it computes, or that the blend applies anew.
WITHOUT_EFFECT_ON_TRAINING = (
    "data.folder",
    "data.test_features",
    # What it sets stands in each model's `split`.
    "data.predict",
    # What these two do to the rows is told by the rows themselves.
    "data.missing_targets",
    "data.other_types",
    "parallel",
    "checkpoint",
    "logging",
    "plan",
    "blend",
    "answers",
    "explain",
)


@dataclasses.dataclass(frozen=True)
class ParallelConfig:
    """How members are spread over devices.

    Attributes:
      strategy: `vmap` (one device), `pmap`, `shard_map`, or `auto` to choose by device count.
      members_at_once: members trained together; 0 for as many as memory allows, of image networks
        in waves that end soonest.
      devices_per_member: devices that share each batch of a member of an image network, a divisor
        of their number; 0 for as many as leave a place for every member that trains.
      rows: tables that members train on: `replicated` on every device, or `sharded`, a part of the
        rows on each, which exchange those of every batch; `auto`: sharded where copies would fill a
        fifth of the devices' memory, which the work folder keeps. Those of image networks are
        replicated.
      steps_per_call: at most this many optimiser steps per device call.
      predict_rows: rows per chunk in inference, a multiple of 128.
    """

    strategy: str = choice("auto", "auto", "vmap", "pmap", "shard_map")
    members_at_once: int = number(0, 0)
    devices_per_member: int = number(0, 0)
    rows: str = choice("auto", "auto", "replicated", "sharded")
    steps_per_call: int = number(64, 1)
    predict_rows: int = number(1024, 128, 2**20)


@dataclasses.dataclass(frozen=True)
class CheckpointConfig:
    """When training is saved.

    Attributes:
      seconds: time between checkpoints; 0 saves after every device call.
    """

    seconds: float = number(300.0, 0.0)


@dataclasses.dataclass(frozen=True)
class LoggingConfig:
    """What is logged beside `log.txt` and `metrics.jsonl`.

    Attributes:
      tensorboard: write TensorBoard files if tensorboardX is installed.
    """

    tensorboard: bool = True


@dataclasses.dataclass(frozen=True)
class PlanConfig:
    """What mode plan plans for.

    Attributes:
      topology: kind of devices and, after a colon, their number or grid: `cpu`, `gpu:8` (A100),
        `a100:1`, `h100:8`, `h200:8`, `l4`, `t4`, `v4:2x2x1`, `v5e:2x4`, `v6e:2x2`. They need not be
        there.
      efficiency: share of the devices' peak FLOPs and bandwidth that time is computed with.
      epochs: epochs that a member is expected to have, at most the longest training of its stage;
        0 for the mean of the original's members where it is recorded, else for the longest.
    """

    topology: str = "cpu"
    efficiency: float = number(0.4, 0.01, 1.0)
    epochs: int = number(0, 0)


@dataclasses.dataclass(frozen=True)
class RunConfig:
    """A whole run.

    Attributes:
      models: configuration of each model's recipe, by the model's name; may be empty where the
        blend has `files`.
      seed: the run's seed, from which every key and permutation derives.
      precision: arithmetic of networks and training. Rounding depends on the number of devices; in
        `float32` it decides now and then on which side of a kink of the network a row is, and with
        that moves probabilities, in `float64` it hardly ever does. JAX_ENABLE_X64=1 in the
        environment stands for `float64` too.
      matmul_precision: in which accelerators multiply float32: their `default` (TF32 on a GPU,
        bfloat16 on a TPU), `high` or `highest` (float32). `auto` is `highest` for TabNet, whose
        gradients are wrong in less, and JAX's setting for other networks. CPUs have float32 in all.
      honest: set every recipe's switches so that no row influences its own reported score.
    """

    models: Mapping[str, Any]
    seed: int = number(0, 0, 2**31 - 1)
    precision: str = choice("float32", "float32", "float64")
    matmul_precision: str = choice("auto", "auto", "default", "high", "highest")
    honest: bool = False
    data: DataConfig = dataclasses.field(default_factory=DataConfig)
    treatment: TreatmentConfig = dataclasses.field(default_factory=TreatmentConfig)
    parallel: ParallelConfig = dataclasses.field(default_factory=ParallelConfig)
    checkpoint: CheckpointConfig = dataclasses.field(default_factory=CheckpointConfig)
    logging: LoggingConfig = dataclasses.field(default_factory=LoggingConfig)
    plan: PlanConfig = dataclasses.field(default_factory=PlanConfig)
    blend: BlendConfig = dataclasses.field(default_factory=BlendConfig)
    answers: AnswersConfig = dataclasses.field(default_factory=AnswersConfig)
    explain: ExplainConfig = dataclasses.field(default_factory=ExplainConfig)


def config_dict(models: Mapping[str, Any], **sections) -> ml_collections.ConfigDict:
    """Returns the ConfigDict of a run, every field present, for a file in `configs/` to refine.

    Unless the `blend` section has weights, fixed ones are equal, so that each can be overridden.

    Args:
      models: a recipe's `Config`, or its fields by name, for each model's name.
      **sections: sections of `RunConfig`, and `seed` or `honest`.
    """
    blend = sections.pop("blend", BlendConfig())
    if not blend.weights:
        names = [*models, *blend.files]
        blend = dataclasses.replace(blend, weights=dict.fromkeys(names, 1 / len(names)))
    return ml_collections.ConfigDict(plain(RunConfig(models, blend=blend, **sections)))


def merged_models(*configs: ml_collections.ConfigDict) -> dict[str, Any]:
    """Returns the models of several configurations by name, for `config_dict`."""
    return {name: model for config in configs for name, model in config.models.to_dict().items()}


def plain(value: Any) -> Any:
    """Returns dataclasses and mappings as nested dicts, everything else as it is."""
    if dataclasses.is_dataclass(value):
        value = {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {name: plain(inner) for name, inner in value.items()}
    return value


def flat(value: Mapping, prefix: str = "") -> dict[str, Any]:
    """Returns a nested dict as `{dotted.name: value}`."""
    result: dict[str, Any] = {}
    for name, inner in value.items():
        if isinstance(inner, Mapping):
            result.update(flat(inner, f"{prefix}{name}."))
        else:
            result[prefix + name] = list(inner) if isinstance(inner, tuple) else inner
    return result


def effective(config: RunConfig) -> dict[str, Any]:
    """Returns the fields that change the numbers of training, by dotted name."""

    def counts(name: str) -> bool:
        return not any(name == f or name.startswith(f + ".") for f in WITHOUT_EFFECT_ON_TRAINING)

    fields = {name: value for name, value in flat(plain(config)).items() if counts(name)}
    if config.treatment == TreatmentConfig():  # as runs are of which nobody could choose it
        del fields["treatment.encoding"]
    if config.matmul_precision == "auto":
        del fields["matmul_precision"]
    return fields


def blend_fields(values: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the fields of a blend's section, by dotted name; those left out have their default.

    Args:
      values: the section, as a work folder has it.
    """
    return flat({"blend": {**plain(BlendConfig()), **values}})


def parse(values: Mapping[str, Any], recipes: Mapping[str, type]) -> RunConfig:
    """Checks a nested configuration and freezes it.

    Args:
      values: the ConfigDict, or what was read from a work folder.
      recipes: the `Config` class of each recipe.

    Raises:
      UserError: naming the field, what was expected and what was found.
    """
    values = dict(values)
    models = values.get("models")
    if not isinstance(models, Mapping):
        raise UserError(f"config.models: expected models by name, found {models!r}")
    parsed = {}
    for name, model in models.items():
        where = f"config.models.{name}"
        recipe = model.get("recipe")
        if recipe not in recipes:
            raise UserError(f"{where}.recipe: expected one of {sorted(recipes)}, found {recipe!r}")
        parsed[name] = build(recipes[recipe], model, where)
    config = build(RunConfig, {**values, "models": parsed}, "config")
    files = {
        name: build(PredictionFiles, entry, f"config.blend.files.{name}")
        for name, entry in config.blend.files.items()
    }
    config = dataclasses.replace(config, blend=dataclasses.replace(config.blend, files=files))
    models = {name: _as_the_run_says(model, config) for name, model in config.models.items()}
    config = dataclasses.replace(config, models=models)
    _check_across(config)
    return config


def _as_the_run_says(model: Any, config: RunConfig) -> Any:
    """Returns a model with the switches that fields of the run set for all models."""
    split, groups = model.split, config.data.groups
    if config.honest:
        model = model.honest()
    if groups == "none":
        model = dataclasses.replace(model, split=split)
    elif groups != "auto":
        kept = "group" if is_group_file(groups) else "compound"
        return dataclasses.replace(model, split=kept)
    return for_question(model, config.data.predict)


def for_question(model: Any, predict: str) -> Any:
    """Returns a model whose folds are for what `data.predict` says, where its split is `auto`."""
    split = {"compounds": "compound", "wells": "stratified"}.get(predict)
    if split is None or model.split != "auto":
        return model
    return dataclasses.replace(model, split=split)


def _check_across(config: RunConfig) -> None:
    data, parallel = config.data, config.parallel
    if data.source == "simulated" and data.folder:
        raise UserError(
            f"config.data.folder: expected none with data.source=simulated, found {data.folder!r}"
        )
    if data.source == "simulated" and not data.genes and not data.cells:
        raise UserError("config.data.genes: expected genes or cells, found 0 of both")
    if (rows := parallel.predict_rows) % 128:
        raise UserError(f"config.parallel.predict_rows: expected a multiple of 128, found {rows}")
    shared = f"devices_per_member={n}" if (n := parallel.devices_per_member) > 1 else ""
    shared = shared or ("rows=sharded" if parallel.rows == "sharded" else "")
    if shared and parallel.strategy in ("vmap", "pmap"):
        raise UserError(
            f"config.parallel.strategy: expected auto or shard_map with {shared}, "
            f"found {parallel.strategy}"
        )
    encoding = config.treatment.encoding
    for name, model in config.models.items():
        if encoding != "one_hot" and not model.encodes_treatment:
            raise UserError(
                f"config.treatment.encoding: expected one_hot with config.models.{name}, whose "
                f"recipe {model.recipe} fixes its inputs, found {encoding}"
            )
    config.blend.check(tuple(config.models))


def is_group_file(groups: str) -> bool:
    """Tells whether `data.groups` names a file."""
    return groups not in ("auto", "none", "compound")


def switches(recipe: Any, prefix: str = "") -> dict[str, Any]:
    """Returns the fidelity switches of a recipe's configuration, by dotted name."""
    found: dict[str, Any] = {}
    for field in dataclasses.fields(recipe):
        value = getattr(recipe, field.name)
        if dataclasses.is_dataclass(value):
            found |= switches(value, f"{prefix}{field.name}.")
        elif field.metadata.get("switch"):
            found[prefix + field.name] = value
    return found


def variants(text: str, *known: str) -> set[str]:
    """Returns the variants of a configuration, which follow its name as `:one,two`.

    Raises:
      UserError: a variant is not among the known ones.
    """
    chosen = {name for name in text.split(",") if name}
    for name in sorted(chosen.difference(known)):
        raise UserError(
            f"--config: variant {name!r}: expected some of {', '.join(known)}"
            + suggestion(name, known)
        )
    return chosen
