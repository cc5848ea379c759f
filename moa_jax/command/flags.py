"""Flags of the command line, and the configuration that they name and refine.

What a flag or a mode is for is followed by an example on a line of its own.
"""

from __future__ import annotations

import keyword
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from absl import flags
from ml_collections import config_flags

from moa_jax import config as sections
from moa_jax.config import RunConfig
from moa_jax.data import prepared
from moa_jax.engine import configurations, unused
from moa_jax.errors import UserError, check_words

MODES = {
    "all": "train and blend, and infer where config.data.test_features is given\n"
    "moa-jax --config=quickstart --workdir=runs/quickstart",
    "train": "fit every model; what an earlier run finished is left as it is\n"
    "moa-jax --config=simple_nn:smoke --mode=train --workdir=runs/mine",
    "infer": "predict config.data.test_features with a finished work folder alone\n"
    "moa-jax --mode=infer --workdir=runs/mine --config.data.test_features=new.csv",
    "blend": "weigh the models, write submission, answer and report\n"
    "moa-jax --config=simple_nn:smoke --mode=blend --workdir=runs/mine",
    "plan": "print members, memory, FLOPs and time on config.plan.topology, and train nothing\n"
    "moa-jax --config=best_cv --mode=plan --config.plan.topology=v5e:2x4",
}
CONFIG = config_flags.DEFINE_config_file(
    "config",
    None,
    "Configuration file, or the name of a packaged one; variants follow a colon. Mode infer may "
    "leave it out.\n"
    "moa-jax --config=simple_nn:old,smoke",
    lock_config=True,
)
FIELDS = flags.DEFINE_bool(
    "fields",
    False,
    "List every field of the configuration with its meaning, and do nothing else.\n"
    "moa-jax --config=simple_nn:old --fields",
)
WORKDIR = flags.DEFINE_string(
    "workdir",
    "runs/default",
    "Folder that everything is written to.\nmoa-jax --config=quickstart --workdir=runs/quickstart",
)
MODE = flags.DEFINE_enum(
    "mode",
    "all",
    list(MODES),
    "One of the modes above.\nmoa-jax --config=quickstart --mode=train",
)
DISTRIBUTED = flags.DEFINE_bool(
    "distributed",
    False,
    "This is one of several processes that train as one: give every one the same command.\n"
    "srun moa-jax --distributed --config=best_cv --workdir=/shared/run",
)
REPAIR = flags.DEFINE_bool(
    "repair",
    False,
    "Remove what is damaged of the work folder, and what was made from it, and train it again.\n"
    "moa-jax --config=quickstart --workdir=runs/quickstart --repair",
)
# A field's flag.
_FIELD = re.compile(r"--?(no)?config\.")
# Configuration files that read what follows the colon: a work folder's own, and a user's.
_STORED = Path(__file__).with_name("stored_config.py")
_FILE = Path(configurations.__file__)


def parse(argv: Sequence[str]) -> list[str]:
    """Parses flags and returns the other arguments.

    Raises:
      UserError: an unknown flag, configuration or field, a wrong type, or no configuration.
    """
    _check_texts(argv)
    # config_flags reads the overrides of the configuration's fields from sys.argv.
    sys.argv = _with_config(argv)
    try:
        rest = flags.FLAGS(sys.argv)
    # These it raises for an unknown flag or field, a wrong type, and an unreadable file.
    except (flags.Error, AttributeError, LookupError, OSError, TypeError, ValueError) as error:
        cause: Exception = error
        while cause.args and isinstance(cause.args[0], Exception):
            cause = cause.args[0]
        if isinstance(cause, (KeyError, TypeError)):
            raise UserError(_unknown_field(str(cause.args[0]))) from error
        message = " ".join(str(error).split()).replace("ConfigDict", "section")
        raise UserError(f"flags: {message.partition(': SyntaxError(')[0]}") from error
    if CONFIG.value is None:
        raise UserError(
            "--config: expected a configuration, such as --config=quickstart; see --help"
        )
    # As it may be given again: a work folder records it.
    sys.argv = [word.replace(f"--config={_FILE}:", "--config=") for word in sys.argv]
    return rest


def configuration() -> RunConfig:
    """Returns the configuration of the parsed flags, checked.

    Raises:
      UserError: naming the field, what was expected and what was found; a field is given that is
        not read.
    """
    from moa_jax.recipes import RECIPES

    config = sections.parse(CONFIG.value.to_dict(), RECIPES)
    in_file = {} if MODE.value == "infer" else unused.not_default(config.data)
    unused.check(config, in_file | given())
    return prepared.applied(config, given())


def given() -> dict[str, Any]:
    """Returns the fields that flags set, by dotted name."""
    return config_flags.get_override_values(flags.FLAGS[CONFIG.name])


def _unknown_field(found: str) -> str:
    """Returns the line about a field that ml_collections does not find.

    Args:
      found: the field's last name and, on a line of its own, whether another is meant; or what else
        was wrong on the way to it.
    """
    quoted, _, similar = found.partition("\n")
    name = quoted.strip("'")
    fields = [word.partition("=")[0] for word in sys.argv if _FIELD.match(word)]
    flag = next((field for field in fields if name in field.split(".")), None)
    if flag is None:  # a field of what is itself a value
        return f"{' or '.join(fields)}: expected a field, found one of a value, which has none"
    return f"{flag}: the configuration has no {name!r}" + (f". {similar}" if similar else "")


def _check_texts(argv: Sequence[str]) -> None:
    check_words(argv)
    for word in argv:
        field = word.partition("=")[0]
        if _FIELD.match(word) and not all(map(_is_name, field.split(".")[1:])):
            raise UserError(
                f"{field}: expected names of letters, digits and '_' with points between them, "
                "which neither begin with a digit nor are words of Python, such as if; a model of "
                "another name is set in the configuration's file, and of several values all are "
                "given together, with commas between them"
            )


def _is_name(text: str) -> bool:
    """Tells whether ml_collections can take a text for the name of a field."""
    return text.isidentifier() and not keyword.iskeyword(text)


def _with_config(argv: Sequence[str]) -> list[str]:
    """Returns the arguments with `--config` first, as the path of a file that exists.

    A name without a path stands for a packaged configuration. Mode infer may leave `--config`
    out: the work folder's own is used.
    """
    argv = list(argv)
    value = _take(argv, "config")
    if value is None and _peek(argv, "mode") == "infer":
        workdir = _peek(argv, "workdir")
        value = f"{_STORED}:{WORKDIR.default if workdir is None else workdir}"
    elif value is not None:
        value = f"{_FILE}:{configurations.file_of(value)}"
    # Overrides such as --config.seed=1 must follow the file they refine.
    return argv if value is None else [argv[0], f"--config={value}", *argv[1:]]


def _peek(argv: Sequence[str], name: str) -> str | None:
    return _take(list(argv), name)


def _take(argv: list[str], name: str) -> str | None:
    """Removes `--name=value` or `--name value` and returns the value; the last one counts."""
    value, index = None, 1
    while index < len(argv):
        flag, equals, given = argv[index].partition("=")
        if flag.lstrip("-") != name or not flag.startswith("-"):
            index += 1
            continue
        del argv[index]
        if equals:
            value = given
        elif index < len(argv):
            value = argv.pop(index)
    return value
