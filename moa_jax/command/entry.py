"""From the command line to one mode; what the mode needs is imported when the flags are right."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Sequence
from logging import NOTSET, WARNING, getLogger
from types import ModuleType
from typing import TYPE_CHECKING

from absl import app, logging

from moa_jax.command import flags, usage
from moa_jax.engine import unused
from moa_jax.errors import UserError, joined_lines
from moa_jax.store import signals, streams

if TYPE_CHECKING:
    from moa_jax.config import RunConfig
    from moa_jax.store.workdir import Workdir

# absl's own help knows nothing of modes and configurations.
_HELP = frozenset("-h -? -help --help --helpshort --helpfull --helpxml".split())


def main(argv: Sequence[str]) -> None:
    """Does what the parsed flags say.

    Args:
      argv: the command and what is left of its arguments, which must be nothing.

    Raises:
      UserError: a mistake in a flag or a field, in the data or in the work folder.
    """
    if len(argv) > 1:
        raise UserError(f"unexpected argument {argv[1]!r}; see --help")
    config = flags.configuration()
    if flags.FIELDS.value:
        from moa_jax.command import fields

        streams.say(fields.text(config))
        return

    jax = _import_jax()

    from moa_jax.training import conventions

    with conventions.usual():
        _run(jax, config)


def _run(jax: ModuleType, config: RunConfig) -> None:
    """Does what the flags say with a configuration."""
    # A line of the log comes before what takes long to import.
    from moa_jax.command import console
    from moa_jax.store import processes
    from moa_jax.store.workdir import Workdir

    if config.precision == "float64":
        jax.config.update("jax_enable_x64", True)
    elif jax.config.values["jax_enable_x64"]:  # by the environment; a work folder is bound to it
        config = dataclasses.replace(config, precision="float64")
    if flags.DISTRIBUTED.value:
        processes.start()
    workdir = Workdir(flags.WORKDIR.value)
    mode = flags.MODE.value
    if flags.REPAIR.value and mode not in ("all", "train"):
        raise UserError(f"--repair: expected --mode=train or all, which train, found {mode}")
    unread = list(unused.told(config, mode, flags.given()))
    if mode == "plan":
        from moa_jax.engine import loading
        from moa_jax.plan import report, topology

        for line in unread:
            logging.warning("%s", line)
        if topology.compiles_for_this_cpu(config.plan.topology):
            console.use_compilation_cache()
        jax.config.update("jax_platforms", "cpu")  # what is planned for need not be there
        config = loading.settled(config)
        streams.say(report.text(config, loading.load_data(config), workdir))
        return
    _check_devices(jax)
    if mode == "infer":  # a missing work folder is told before one is made
        from moa_jax.command import inference

        config = inference.settled(config, workdir)
    workdir.lock()
    console.start_log(workdir.path / "log.txt")
    for line in unread:
        logging.warning("%s", line)
    console.use_compilation_cache()
    if mode != "infer":
        config = _train_and_blend(config, workdir, mode)
    if mode == "infer" or (mode == "all" and config.data.test_features):
        from moa_jax.command import inference

        inference.infer(config, workdir)


def _train_and_blend(config: RunConfig, workdir: Workdir, mode: str) -> RunConfig:
    """Does what `mode` names of both; returns the configuration with the levels of its data."""
    from moa_jax.command import completion
    from moa_jax.engine import loading

    if mode == "all" and config.data.test_features:
        from moa_jax.command import inference

        inference.check_ahead(config)
    config = loading.settled(config)
    dataset = loading.load_data(config)
    if mode == "all" and not flags.REPAIR.value and completion.is_there(config, workdir, dataset):
        completion.tell(config, workdir)
        return config

    from moa_jax.engine import run

    outside = run.outside_sources(config, dataset)
    if mode != "train":
        run.unlike_splits(config, dataset)
    if flags.REPAIR.value:
        from moa_jax.command import repair

        repair.repair(config, workdir, dataset)
    if mode != "blend":
        run.train(config, workdir, dataset)
        run.train_on_other_folds(config, workdir, dataset)
    if mode != "train":
        run.blend(config, workdir, dataset, outside)
        run.report(workdir)
    if mode == "all":
        completion.write(config, workdir, dataset)
    return config


def _import_jax() -> ModuleType:
    """Returns JAX, which reads its settings from the environment when it is imported.

    A signal waits: raised while the compiled parts are read it would crash the process.
    """
    try:
        with signals.watched():
            import jax
    except ValueError as error:
        raise UserError(f"environment: {joined_lines(error)}") from error
    talk = getLogger("jax")
    if talk.level == NOTSET:  # what JAX tells of every start comes before our log's filter
        talk.setLevel(WARNING)
    return jax


def _check_devices(jax: ModuleType) -> None:
    """Raises a UserError unless JAX finds devices of the kind that the environment names."""
    try:
        jax.devices()
    except RuntimeError as error:
        raise UserError(f"JAX: {joined_lines(error)}") from error


def cli() -> None:
    """Parses the flags and does what they say; raises what `main` raises."""
    if sys.argv[1:2] == ["prepare"]:
        from moa_jax.prepare.__main__ import cli as prepare

        prepare(sys.argv[2:])
        return
    if not _HELP.isdisjoint(sys.argv[1:]):
        streams.say(usage.text())
        return
    app.run(main, flags_parser=flags.parse)
