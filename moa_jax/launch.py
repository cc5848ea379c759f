"""Command line: flags -> configuration -> train, infer, blend, or all of them.

python -m moa_jax.launch --config=configs/quickstart.py --workdir=runs/quickstart
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

import jax
from absl import app, flags
from ml_collections import config_flags

from moa_jax import config as configuration
from moa_jax.command import console, plan, run
from moa_jax.errors import UserError
from moa_jax.recipes import RECIPES
from moa_jax.store import processes
from moa_jax.store.workdir import Workdir

MODES = ("all", "train", "infer", "blend", "plan")

_CONFIG = config_flags.DEFINE_config_file(
    "config",
    None,
    "Configuration file, or the name of a packaged one; variants follow a colon, such as "
    "quickstart or configs/simple_nn.py:old,smoke. Mode infer may leave it out.",
    lock_config=True,
)
_WORKDIR = flags.DEFINE_string("workdir", "runs/default", "Folder that everything is written to.")
_MODE = flags.DEFINE_enum(
    "mode",
    "all",
    MODES,
    "train: fit every model; blend: weigh them, write submission and report; infer: predict "
    "config.data.test_features with a finished work folder; all: train and blend, and infer "
    "where config.data.test_features is given; plan: print members, memory, FLOPs and time on "
    "config.plan.topology without training.",
)


_DISTRIBUTED = flags.DEFINE_bool(
    "distributed",
    False,
    "This is one of several processes that train as one: give every one the same command.",
)


def main(argv: Sequence[str]) -> None:
    if len(argv) > 1:
        raise UserError(f"unexpected argument {argv[1]!r}; see --help")
    config = configuration.parse(_CONFIG.value.to_dict(), RECIPES)
    if _DISTRIBUTED.value:
        processes.start()
    workdir = Workdir(_WORKDIR.value)
    mode = _MODE.value
    if mode == "plan":
        console.use_compilation_cache()
        jax.config.update("jax_platforms", "cpu")  # what is planned for need not be there
        print(plan.report(config, run.load_data(config), workdir))
        return
    if mode == "infer":
        workdir.read()  # a missing work folder is told before one is made
    workdir.lock()
    console.start_log(workdir.path / "log.txt")
    console.use_compilation_cache()
    if mode in ("all", "train", "blend"):
        dataset = run.load_data(config)
        outside = run.outside_sources(config, dataset)
        if mode != "blend":
            run.train(config, workdir, dataset)
        if mode != "train":
            run.blend(config, workdir, dataset, outside)
    if mode == "infer" or (mode == "all" and config.data.test_features):
        run.infer(config, workdir)


def parse_flags(argv: Sequence[str]) -> list[str]:
    """Parses flags; what is wrong with them is one line."""
    # config_flags reads the overrides of the configuration's fields from sys.argv.
    sys.argv = console.with_config(argv)
    try:
        rest = flags.FLAGS(sys.argv)
    except KeyError as error:
        name = str(error.args[0]).strip("'")
        fields = [word.partition("=")[0] for word in sys.argv if word.startswith("--config.")]
        flag = next((field for field in fields if name in field.split(".")), "--config")
        raise UserError(f"{flag}: the configuration has no {name!r}") from error
    # These it raises for an unknown flag or field, a wrong type, and an unreadable file.
    except (flags.Error, AttributeError, OSError, TypeError, ValueError) as error:
        message = " ".join(str(error).strip("'\"").split())
        raise UserError(f"flags: {message}") from error
    if _CONFIG.value is None:
        raise UserError("--config: expected a configuration, such as --config=quickstart")
    return rest


def cli() -> None:
    """Runs the command line; a user's mistake is one line and exit status 1."""
    try:
        app.run(main, flags_parser=parse_flags)
    except UserError as error:
        print(f"moa-jax: {error}", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    cli()
