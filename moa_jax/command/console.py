"""What a person meets at the terminal: the configuration's name, log lines, the compile cache."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import jax
from absl import logging as absl_logging
from tqdm import tqdm

from moa_jax import configs
from moa_jax.config import suggestion
from moa_jax.errors import UserError
from moa_jax.store import files, processes

_STORED = Path(__file__).with_name("stored_config.py")


def with_config(argv: Sequence[str]) -> list[str]:
    """Returns the arguments with `--config` first, as the path of a file that exists.

    A name without a path stands for a packaged configuration. Mode infer may leave `--config`
    out: the work folder's own is used.

    Raises:
      UserError: there is no such file.
    """
    argv = list(argv)
    value = _take(argv, "config")
    if value is None and _peek(argv, "mode") == "infer":
        value = f"{_STORED}:{_peek(argv, 'workdir') or 'runs/default'}"
    elif value is not None:
        value = _existing(value)
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


def _existing(value: str) -> str:
    name, colon, variant = value.partition(":")
    if name == str(_STORED) or Path(name).is_file():
        return value
    packaged = Path(configs.__path__[0])
    found = packaged / f"{name.removesuffix('.py')}.py"
    if "/" not in name and found.is_file():
        return f"{found}{colon}{variant}"
    known = sorted(
        entry.name.removesuffix(".py")
        for entry in packaged.iterdir()
        if entry.name.endswith(".py") and not entry.name.startswith("_")
    )
    raise UserError(
        f"--config: {name}: not found; packaged are {', '.join(known)}"
        + suggestion(Path(name).stem, known)
    )


class _Console(logging.Handler):
    """Lines above the progress bar, where there is one."""

    def emit(self, record: logging.LogRecord) -> None:
        tqdm.write(self.format(record), file=sys.stderr)


def start_log(path: Path) -> None:
    """Sends log lines to the terminal and to a file; of several processes those of the first."""
    handlers: list[logging.Handler] = [_Console()]
    if processes.is_first():
        with files.writing(path):
            handlers.append(logging.FileHandler(path, encoding="utf-8"))
    else:
        handlers[0].setLevel(logging.WARNING)
    # A full disk must end in the one line that names the file, not in the logger's own trouble.
    logging.raiseExceptions = False
    root = logging.getLogger()
    root.handlers.clear()
    for handler in handlers:
        handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S"))
        # orbax and JAX tell their every step; only their warnings are for the reader.
        handler.addFilter(lambda r: r.levelno > logging.INFO or "moa_jax" in r.pathname)
        root.addHandler(handler)
    absl_logging.set_verbosity(absl_logging.INFO)


def use_compilation_cache() -> None:
    """Keeps compiled programs in the user's cache folder, unless JAX was told another place."""
    if jax.config.jax_compilation_cache_dir is None:
        caches = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
        jax.config.update("jax_compilation_cache_dir", str(Path(caches) / "moa_jax" / "xla"))
