"""Limits: sizes of the configuration against the data and the memory, before work begins."""

from __future__ import annotations

import bisect
import contextlib
import dataclasses
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from moa_jax.config import BlendConfig, DataConfig, RunConfig
from moa_jax.data.dataset import Dataset, Levels
from moa_jax.data.simulate import TEST_SHARE
from moa_jax.errors import UserError
from moa_jax.recipes import system
from moa_jax.recipes.context import Context
from moa_jax.recipes.design import StageDesign, has_nonscored
from moa_jax.recipes.host_stage import HostStage
from moa_jax.recipes.recipe import Recipe
from moa_jax.recipes.system import BuiltStage
from moa_jax.schema import LARGEST
from moa_jax.store import memory
from moa_jax.training import footprint
from moa_jax.training.layout import members_at_once, shares_rows
from moa_jax.training.members import SMALLEST_BATCH

# From a section of the configuration to the bytes that it needs; infinite where it cannot be.
Needed = Callable[[Any], float]


def check_simulated(data: DataConfig) -> None:
    """Checks that simulated data fit in memory, before they are made.

    Raises:
      UserError: naming the field that makes them too large, and a value that would fit.
    """

    def needed(data: DataConfig) -> float:
        rows, columns = data.rows * (1 + TEST_SHARE), data.genes + data.cells
        # Latent values, their ranks and the columns are there at once, in float64.
        return 8 * rows * (3 * columns + 1) + 2 * rows * (data.scored + data.nonscored)

    _check(data, needed(data), needed, memory.machine_bytes(), "config.data", "simulating data")


def check_counts(config: RunConfig, dataset: Dataset) -> None:
    """Checks what can be told of the members before the rows are cut into folds for them.

    Raises:
      UserError: there are more members than memory for their rows, or more nested parts of the
        blend's rows than rows.
    """
    treated = int((~dataset.is_control).sum())
    parts = config.blend.nested_folds
    if parts > max(treated, BlendConfig.nested_folds):
        raise UserError(
            f"config.blend.nested_folds: expected at most as many as treated rows, found {parts} "
            f"for {treated}"
        )
    nonscored, levels = has_nonscored(dataset), Levels.of(config.data, config.treatment.encoding)

    def needed(model: Recipe) -> float:
        designs = model.stages(levels, nonscored)
        # A population's members are dealt to its stages.
        dealt = sum(design.by_seed for design in designs)
        members = sum(_members(model, d) / (dealt if d.by_seed else 1) for d in designs)
        # A member keeps the position of every row, as one it trains on or as one it predicts.
        return 8 * treated * members

    def needed_by_another(model: Recipe) -> float:
        try:
            return needed(model)
        except UserError:  # its other fields do not go with the one that was replaced
            return math.inf

    for name, model in config.models.items():
        where, at_hand = f"config.models.{name}", memory.machine_bytes()
        with naming(name):
            required = needed(model)
        what = "the list of all networks' rows"
        _check(model, required, needed_by_another, at_hand, where, what)


@contextlib.contextmanager
def naming(model: str) -> Iterator[None]:
    """Puts the model before what is wrong with one of its fields."""
    try:
        yield
    except UserError as error:
        raise UserError(f"config.models.{model}: {error}") from None


def _members(model: Recipe, design: StageDesign) -> int:
    """Returns how many members a stage has for every row in a fold."""
    section = getattr(model, design.name, model)
    seeds = getattr(section, "seeds", getattr(model, "seeds", (0,)))
    nesting = design.nesting
    each = model.folds
    if nesting is not None and nesting.left_out > 1:
        each = math.comb(nesting.blocks, nesting.left_out)
    return len(set(seeds)) * each


def checked(stages: list[BuiltStage], name: str, model: Recipe) -> list[BuiltStage]:
    """Returns a model's outline if every member has rows to train on and can count its steps.

    Args:
      stages: the outline.
      name: the model's.
      model: its configuration.

    Raises:
      UserError: naming the field.
    """
    for built in stages:
        stage = built.stage
        fewest = min(len(member.train_rows) for member in stage.members)
        if fewest < SMALLEST_BATCH:
            raise UserError(
                f"config.models.{name}.folds: expected at least {SMALLEST_BATCH} training rows in "
                f"every network, found {fewest}; {stage.name} needs more rows, or other folds"
            )
        if isinstance(stage, HostStage):
            continue
        steps = stage.longest_epoch
        if stage.epochs * steps > LARGEST[int]:
            fields = (field.name for field in _sizes(model) if field.value == stage.epochs)
            field = next(fields, "epochs")
            raise UserError(
                f"config.models.{name}.{field}: expected at most {LARGEST[int] // steps} with "
                f"{steps} steps in each, found {stage.epochs}"
            )
    return stages


def check_memory(config: RunConfig, dataset: Dataset, context: Context) -> None:
    """Checks that a model's stages can be trained, and fit in the memory at hand.

    Args:
      config: the run.
      dataset: its data.
      context: where and how the model runs.

    Raises:
      UserError: see `checked`; or naming the field that makes a stage too large, and a value
        that would fit.
    """
    name, model = context.model, config.models[context.model]
    stages = checked(system.outline(model, dataset, context), name, model)
    at_hand, devices = memory.machine_bytes(), context.devices
    if devices.devices[0].platform != "cpu":
        at_hand = min(at_hand, devices.memory_bytes())

    def needed(config: RunConfig) -> float:
        at = dataclasses.replace(context, config=config)
        try:
            check_counts(config, dataset)
            return _largest(system.outline(config.models[name], dataset, at), at)
        except UserError:
            return math.inf

    blamed = (f"models.{name}.", "parallel.")
    wanted = _largest(stages, context)
    _check(config, wanted, needed, at_hand, "config", f"training {name}", blamed)


def _largest(stages: Sequence[BuiltStage], context: Context) -> float:
    """Returns the bytes of the stage that needs most."""
    return max(_stage_bytes(built, context) for built in stages)


def _stage_bytes(built: BuiltStage, context: Context) -> float:
    stage, parallel = built.stage, context.parallel
    if isinstance(stage, HostStage):
        return stage.num_bytes
    devices = context.devices_for(stage.forward, len(stage.members))
    there = len(devices.devices), devices.memory_bytes()
    at_once = members_at_once(stage, *there, parallel)
    if not isinstance(at_once, int):
        at_once = max(at_once)
    has_accelerators = devices.devices[0].platform != "cpu"
    in_parts = has_accelerators and built.makes_rows and shares_rows(stage, *there, parallel)
    steps, parts = parallel.steps_per_call, there[0] if in_parts else 1
    found = footprint.of_stage(stage, devices, at_once, steps, built.by_seed, parts)
    # A chunk of rows that are predicted, and what is predicted of it.
    chunk = parallel.predict_rows * (built.num_inputs + stage.targets.shape[1]) * 4
    return max(found.total, chunk)


def _check(
    section: Any,
    wanted: float,
    needed: Needed,
    at_hand: int,
    where: str,
    what: str,
    blamed: tuple[str, ...] = ("",),
) -> None:
    """Checks that what a section needs is at hand.

    A field is to blame that is above its default and at its default would leave enough, or else one
    that would at its smallest value; of several the one that would leave most.

    Args:
      section: a dataclass.
      wanted: bytes that it needs.
      needed: tells the same of another one.
      at_hand: bytes that there are.
      where: the section's name.
      what: what needs the memory.
      blamed: how the names of the fields begin that may be blamed.
    """
    if wanted <= at_hand:
        return
    needs, there = f"{what} needs {memory.size(wanted)} of memory", memory.size(at_hand)
    fields = [field for field in _sizes(section) if field.name.startswith(blamed)]
    found = _to_blame(section, needed, at_hand, [(field, field.default) for field in fields])
    found = found or _to_blame(
        section, needed, at_hand, [(field, field.smallest) for field in fields]
    )
    if not found:
        raise UserError(
            f"{where}: {needs}, this machine has {there}; take fewer rows or columns, or a "
            "machine with more"
        )
    field, value, fits = found
    # What is needed at least should leave room for what is not counted.
    halvings = [value]
    while _length(halvings[-1]) > max(1, _length(fits)):
        halvings.append(_halved(halvings[-1]))
    first = bisect.bisect_left(
        halvings, True, key=lambda v: needed(_replaced(section, field, v)) <= at_hand / 2
    )
    fits = max(halvings[first] if first < len(halvings) else fits, fits, key=_length)
    raise UserError(
        f"{where}.{field}: {needs} with {_told(value)}, this machine has {there}; {_told(fits)} "
        "would fit"
    )


def _to_blame(
    section: Any, needed: Needed, at_hand: int, smaller: Sequence[tuple[_Size, Any]]
) -> tuple[str, Any, Any] | None:
    """Returns name, value and smaller value of the field that leaves most when it has that."""
    found = [
        (needed(_replaced(section, field.name, small)), field.name, field.value, small)
        for field, small in smaller
        if _length(field.value) > _length(small)
    ]
    left, *of_field = min(found, key=lambda one: one[0], default=(math.inf, "", 0, 0))
    return tuple(of_field) if left <= at_hand else None


class _Size(NamedTuple):
    """A whole number or a tuple of a section, by dotted name."""

    name: str
    value: Any
    default: Any
    smallest: Any


def _sizes(section: Any, usual: Any = None, prefix: str = "") -> Iterator[_Size]:
    """Yields the fields of a section and of those within that make something large."""
    for field in dataclasses.fields(section):
        name, value = prefix + field.name, getattr(section, field.name)
        if usual is not None:
            default = getattr(usual, field.name)
        elif field.default is not dataclasses.MISSING:
            default = field.default
        else:
            factory = field.default_factory
            default = None if factory is dataclasses.MISSING else factory()
        if dataclasses.is_dataclass(value):
            yield from _sizes(value, default, f"{name}.")
        elif isinstance(value, Mapping):
            for key, inner in value.items():
                if dataclasses.is_dataclass(inner):
                    yield from _sizes(inner, None, f"{name}.{key}.")
        elif isinstance(value, tuple):
            if "length" not in field.metadata:
                yield _Size(name, value, default, value[:1])
        elif isinstance(value, int) and not isinstance(value, bool):
            yield _Size(name, value, default, field.metadata.get("low") or 1)


def _replaced(section: Any, field: str, value: Any) -> Any:
    """Returns a section or a mapping of them with another value of a field, by dotted name."""
    name, _, rest = field.partition(".")
    inner = section[name] if isinstance(section, Mapping) else getattr(section, name)
    value = _replaced(inner, rest, value) if rest else value
    if isinstance(section, Mapping):
        return {**section, name: value}
    return dataclasses.replace(section, **{name: value})


def _length(value: Any) -> int:
    return len(value) if isinstance(value, tuple) else value


def _halved(value: Any) -> Any:
    return value[: len(value) // 2] if isinstance(value, tuple) else value // 2


def _told(value: Any) -> str:
    return f"{len(value)} values" if isinstance(value, tuple) else str(value)
