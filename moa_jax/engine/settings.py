"""Settings of a run that is called from Python: a configuration, and fields set otherwise."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

import ml_collections
import numpy as np

from moa_jax import config as configuration
from moa_jax.config import RunConfig, flat, suggestion
from moa_jax.engine import configurations, unused
from moa_jax.errors import UserError
from moa_jax.recipes import RECIPES
from moa_jax.schema import shown

# The field that says how many networks of each fold a model has: by their seeds, or by number.
_SEEDS, _MEMBERS = "seeds", "members"


def resolved(
    config: Any,
    overrides: Mapping[str, Any] | None = None,
    seeds: Any = None,
    folds: int | None = None,
    seed: int | None = None,
    grouped: bool = False,
) -> RunConfig:
    """Returns the configuration of a run whose rows are given, checked as that of a command.

    What the configuration says of where data lie is not read.

    Args:
      config: a packaged name or the path of a Python file, each with its variants, a ConfigDict, or
        nested fields by name.
      overrides: values of fields: of the run by dotted name, as `data.cp_times`, or, by its own
        name, of every model that has it.
      seeds: number of networks of each fold, or their seeds; None as the configuration says.
      folds: number of folds of every model; None as the configuration says.
      seed: the run's seed; None as the configuration says.
      grouped: rows have groups, which the folds of all models keep whole unless the configuration
        says what they keep.

    Raises:
      UserError: there is no such configuration or field, or a value is not what is expected.
    """
    values = _values(config)
    values["data"] = {**values.get("data", {}), "source": "folder", "folder": ""}
    values["data"]["test_features"] = ""
    given: dict[str, Any] = {}
    if seeds is not None:
        given |= _set_seeds(values, _plain(seeds))
    if folds is not None:
        given |= _set(values, "folds", _plain(folds))
    if seed is not None:
        given |= _set(values, "seed", _plain(seed))
    if overrides is not None and not isinstance(overrides, Mapping):
        raise UserError(f"overrides: expected values by name of field, found {shown(overrides)}")
    for name, value in (overrides or {}).items():
        given |= _set(values, name, _plain(value))
    if grouped and values["data"].get("groups", "auto") == "auto":
        if any(model.get("split") == "original" for model in values["models"].values()):
            values["data"]["groups"] = "compound"
    found = configuration.parse(values, RECIPES)
    for name in found.blend.files:
        raise UserError(
            f"config.blend.files.{name}: expected none, whose predictions come from a file; new "
            "rows cannot be predicted"
        )
    unused.check(found, given)
    return found


def _values(config: Any) -> dict[str, Any]:
    """Returns the nested fields of a configuration, models among them."""
    if isinstance(config, str):
        try:
            config = configurations.get_config(configurations.file_of(config))
        except UserError as error:
            # From Python it is a parameter.
            raise UserError(str(error).removeprefix("--")) from None
    if isinstance(config, ml_collections.ConfigDict):
        config = config.to_dict()
    if not isinstance(config, Mapping):
        raise UserError(
            "config: expected the name of a configuration, the path of a .py file or a ConfigDict, "
            f"found {shown(config)}"
        )
    found = _copied(config)
    models = found.get("models")
    if not isinstance(models, dict) or not all(isinstance(m, dict) for m in models.values()):
        raise UserError(f"config.models: expected models by name, found {shown(models)}")
    return found


def _copied(value: Any) -> Any:
    if dataclasses.is_dataclass(value):
        value = configuration.plain(value)
    if isinstance(value, Mapping):
        return {name: _copied(inner) for name, inner in value.items()}
    return value


def _plain(value: Any) -> Any:
    """Returns a value without numpy's types, which searches over parameters have."""
    return value.tolist() if isinstance(value, np.generic | np.ndarray) else value


def _set(values: dict[str, Any], name: str, value: Any) -> dict[str, Any]:
    """Sets a field and returns the values that were set, by dotted name."""
    if not isinstance(name, str):
        raise UserError(f"overrides: expected names of fields, found {shown(name)}")
    name = name.removeprefix("config.")
    if "." in name or name in {field.name for field in dataclasses.fields(RunConfig)}:
        places = [name] if name in {*_names(values), *_of_models(values)} else []
    else:
        places = [place for place in _of_models(values) if place.rpartition(".")[2] == name]
    if not places:
        raise _unknown(values, name)
    for place in places:
        *sections, last = place.split(".")
        inner = values
        for section in sections:
            inner = inner.setdefault(section, {})
        inner[last] = value
    return dict.fromkeys(places, value)


def _set_seeds(values: dict[str, Any], seeds: Any) -> dict[str, Any]:
    """Sets the seeds of every model, of a population the number of its members."""
    is_number = isinstance(seeds, int) and not isinstance(seeds, bool)
    if not is_number and not isinstance(seeds, list | tuple):
        raise UserError(f"seeds: expected a number of networks or their seeds, found {seeds!r}")
    given: dict[str, Any] = {}
    value: Any
    for model in values["models"]:
        own = [place for place in _of_models(values) if place.startswith(f"models.{model}.")]
        if any(place.endswith(f".{_SEEDS}") for place in own):
            places = [place for place in own if place.endswith(f".{_SEEDS}")]
            value = tuple(range(seeds)) if is_number else tuple(seeds)
        else:
            places = [place for place in own if place == f"models.{model}.{_MEMBERS}"]
            value = seeds if is_number else len(seeds)
            if places and not is_number:
                raise UserError(
                    f"seeds: expected a number for {model}, whose networks are a population, found "
                    f"{shown(seeds)}"
                )
        for place in places:
            given |= _set(values, place, value)
    if not given:
        raise _unknown(values, _SEEDS)
    return given


def _names(values: Mapping[str, Any]) -> list[str]:
    """Returns the fields of a run, by dotted name; those of a partial one are there by default."""
    default = configuration.plain(RunConfig({}))
    return [*dict.fromkeys((*flat(values), *flat(default)))]


def _of_models(values: Mapping[str, Any]) -> Iterator[str]:
    """Yields the fields of the models, by dotted name, those of a partial one too."""
    for name, model in values["models"].items():
        recipe = RECIPES.get(model.get("recipe"))
        default = {} if recipe is None else flat(configuration.plain(recipe()))
        fields = dict.fromkeys((*flat(model), *default))
        yield from (f"models.{name}.{field}" for field in fields if field != "recipe")


def _unknown(values: Mapping[str, Any], name: str) -> UserError:
    if "." in name:
        known = [*_names(values), *_of_models(values)]
        there = f"fields of {name.rpartition('.')[0]} are "
        within = [n for n in known if n.startswith(f"{name.rpartition('.')[0]}.")]
        there = there + ", ".join(n.rpartition(".")[2] for n in within) if within else ""
    else:
        known = [*dict.fromkeys(n.rpartition(".")[2] for n in _of_models(values))]
        known += [f.name for f in dataclasses.fields(RunConfig) if f.name != "models"]
        there = f"there are {', '.join(known)}"
    return UserError(
        f"{name}: expected a field of the configuration, found none of that name"
        + suggestion(name, known)
        + (f"; {there}" if there else "")
    )
