"""Exhausted: a device without memory left is one line, with the field that would take less."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

import jax

from moa_jax.errors import UserError, first_line
from moa_jax.training.layout import Settings
from moa_jax.training.stage import Stage

# How XLA's own message begins, of a program that is compiled and of one that runs.
_STATUS = "RESOURCE_EXHAUSTED"
# Where nothing that is computed can be made smaller.
OTHER_MEANS = (
    "end what else uses the device, let JAX have more of a GPU "
    "(XLA_PYTHON_CLIENT_MEM_FRACTION=0.95), or use one with more memory"
)


@contextlib.contextmanager
def told(remedy: Callable[[], str]) -> Iterator[None]:
    """Makes a line of it when a program finds no room on the device, where it is compiled or runs.

    Args:
      remedy: returns what ran, with which field, and which value would need less.

    Raises:
      UserError: it found none.
    """
    try:
        yield
    except jax.errors.JaxRuntimeError as error:
        if not str(error).startswith(_STATUS):
            raise
        said = first_line(error).removeprefix(f"{_STATUS}:").strip().rstrip(".")[:200]
        raise UserError(f"{remedy()} ({said})") from error


def of_training(
    stage: Stage, settings: Settings, model: str, remat: bool | None, strategy: str
) -> str:
    """Returns what to do about a stage that finds no room for its training.

    Fewer members at once come first, then more devices for each, then computing activations twice,
    then a part of the tables' rows on each device. None of them changes what is trained, as fewer
    rows in a batch would.

    Args:
      stage: the stage.
      settings: how it is run.
      model: the name of its model in the configuration.
      remat: the model's `remat`; None where it has no such field.
      strategy: as configured; devices share nothing by `pmap`.
    """
    devices, at_once = settings.devices, min(settings.members_at_once, len(stage.members))
    what = f"training {stage.name} ran out of memory on the device"
    per_shard = -(-at_once // devices.num_shards)
    if per_shard > 1:
        fewer = per_shard // 2 * devices.num_shards
        return (
            f"config.parallel.members_at_once: {what} with {at_once} members at once; {fewer} need "
            "less"
        )
    # Where a run asks for it, the field that is told would be refused beside it.
    by_auto = ", with config.parallel.strategy=auto," if strategy == "pmap" else ""
    count = len(devices.devices)
    more = [n for n in range(devices.per_member + 1, count + 1) if count % n == 0]
    if stage.forward.shares_batches and more:
        return (
            f"config.parallel.devices_per_member: {what} with {devices.per_member} devices for "
            f"each member; {more[0]}{by_auto} need less each"
        )
    if remat is False:
        return (
            f"config.models.{model}.remat: {what}; true, in another --workdir, needs less memory "
            "and more time"
        )
    if devices.num_shards > 1 and not devices.shares_rows and not stage.forward.shares_batches:
        return (
            f"config.parallel.rows: {what} with one member and all tables on each of "
            f"{devices.num_shards} devices; sharded{by_auto} needs less"
        )
    return f"{stage.name}: {what} with one member on each; {OTHER_MEANS}"


def of_prediction(name: str, rows: int | None) -> str:
    """Returns what to do about members that find no room for what they predict.

    Args:
      name: the stage's.
      rows: rows of a chunk; None where all training rows are predicted.
    """
    what = f"predicting by {name} ran out of memory on the device"
    if rows is not None and rows > 128:
        fewer = max(rows // 256 * 128, 128)
        return f"config.parallel.predict_rows: {what} with {rows} rows at once; {fewer} need less"
    return f"{name}: {what}; {OTHER_MEANS}"
