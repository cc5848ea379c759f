"""Usage: what `--help` prints, from the flags and the configurations' own words."""

from __future__ import annotations

import ast
import textwrap
from collections.abc import Mapping
from pathlib import Path

from absl import flags as absl_flags

import moa_jax
from moa_jax.command import flags
from moa_jax.engine import configurations

WIDTH = 100
# How flags with values are written; absl knows only their names.
_VALUES = {"config": "=NAME[:VARIANT,...]", "workdir": "=FOLDER", "mode": "=MODE"}


def text() -> str:
    """Returns the page: modes, flags and packaged configurations, with an example each."""
    own = absl_flags.FLAGS.get_flags_for_module(flags.__name__)
    described = {f"--{flag.name}{_VALUES.get(flag.name, '')}": flag.help for flag in own}
    described |= {
        "--config.FIELD=VALUE": "Another value of a field.\n"
        "moa-jax --config=simple_nn:old --config.parallel.strategy=vmap",
    }
    summaries = {name: summary(path) for name, path in configurations.packaged().items()}
    return "\n".join(
        [
            f"moa-jax {moa_jax.__version__}: the lish-moa winning ensemble in JAX and Flax",
            "",
            "  moa-jax --config=NAME [--mode=MODE] [--workdir=FOLDER] [--config.FIELD=VALUE ...]",
            "  moa-jax prepare TABLE --out=FOLDER           a screening table as a data folder",
            "  python -m moa_jax.pretrained --arch=NETWORK  published weights, converted",
            "",
            "Modes (--mode, all by default)",
            *_rows(flags.MODES),
            "",
            "Flags",
            *_rows(described),
            "",
            "Configurations of the package; --config=NAME --fields lists the fields of one",
            *_rows(summaries),
        ]
    )


def summary(path: Path) -> str:
    """Returns the first line of a Python file's docstring, without running the file."""
    docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
    return (docstring or "").partition("\n")[0]


def _rows(entries: Mapping[str, str]) -> list[str]:
    """Returns names and texts in two columns; an example stands on a line of its own."""
    column = max(map(len, entries)) + 4
    lines = []
    for name, words in entries.items():
        wrapped = [part for line in words.splitlines() for part in _wrap(line, column)]
        lines.append(f"  {name}".ljust(column) + wrapped[0])
        lines += [" " * column + line for line in wrapped[1:]]
    return lines


def _wrap(line: str, column: int) -> list[str]:
    # An example can be pasted, so it stays whole.
    if line.startswith(("moa-jax", "srun")):
        return [line]
    return textwrap.wrap(line, WIDTH - column, break_on_hyphens=False)
