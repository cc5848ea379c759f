"""Command line: a screening table -> a data folder, and a page on what was found.

python -m moa_jax.prepare TABLE --out=FOLDER --preset=pycytominer
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from absl import logging as absl_logging

from moa_jax.errors import UnsupportedSystem, UserError, check_words
from moa_jax.prepare.options import ROLES, Options
from moa_jax.prepare.presets import PRESETS

try:
    from moa_jax.store import ending, files
    from moa_jax.store.signals import Interrupted
except UnsupportedSystem as error:
    sys.exit(f"moa-jax: {error}")

_EXAMPLES = """\
examples:
  moa-jax prepare profiles.csv.gz --preset=pycytominer --out=data
  moa-jax prepare wells.csv --out=data --id=well --features='^f_' --compound=drug --labels=moa \\
      --control_column=drug --control_value=DMSO
  moa-jax prepare level5.gctx --preset=cmap --metadata=siginfo.txt,compoundinfo.txt \\
      --genes=geneinfo.txt --out=data
  moa-jax prepare new_plate.csv --like=data --out=new.csv
"""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message}; see moa-jax prepare --help")


def parser() -> argparse.ArgumentParser:
    """Returns what reads the arguments."""
    found = _Parser(
        prog="moa-jax prepare",
        description="Writes a data folder from a table of wells: texts (.csv, .tsv or .txt, also "
        "packed), .parquet, AnnData (.h5ad), .gct or .gctx.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    found.add_argument("table", metavar="TABLE", help="the table")
    found.add_argument(
        "--out", metavar="FOLDER", help="what is written: a new folder, or with --like a file"
    )
    found.add_argument(
        "--like", metavar="FOLDER", help="write only the features of new rows, as this folder's"
    )
    found.add_argument(
        "--preset", metavar="NAME", help="whose names the columns have: " + ", ".join(PRESETS)
    )
    found.add_argument(
        "--features", metavar="REGEX", help="columns of features, such as '^(Cells|Nuclei)_'"
    )
    for role, what in ROLES.items():
        found.add_argument(f"--{role}", metavar="COLUMN", help=f"column of {what}")
    for name, metavar, what in (
        ("label_separator", "TEXT", "what stands between labels (|)"),
        ("control_value", "VALUE,...", "values of --control_column that controls have (DMSO and "
         "its like)"),
        ("split_test", "VALUE,...", "values of --split_column that rows to predict have (test)"),
        ("metadata", "FILE,...", "files of more columns about wells or compounds, joined by the "
         "first column in common and others that tell rows apart which are alike there"),
        ("genes", "FILE", "file of more columns about the features of a matrix"),
        ("predict", "WHAT", "what is to be predicted: compounds (new ones) or wells (new ones of "
         "known compounds); else what most rows to predict are"),
        ("layer", "NAME", "layer of an AnnData file, key of its obsm, or raw, in the place of X"),
    ):  # fmt: skip
        found.add_argument(f"--{name}", metavar=metavar, help=what)
    found.add_argument(
        "--min_compounds", type=int, metavar="N", help="leave out labels of fewer compounds (2)"
    )
    return found


def main(arguments: Sequence[str]) -> None:
    """Does what the arguments say.

    Raises:
      UserError: a mistake in a flag, the table or the folder.
    """
    check_words(arguments)
    given = vars(parser().parse_args(arguments))
    table, out, like = given.pop("table"), given.pop("out"), given.pop("like")
    if not out:
        raise UserError("--out: expected a folder to write; see moa-jax prepare --help")
    files.check_no_tilde("--out", out)
    given = {name: value for name, value in given.items() if value is not None}
    if like is not None:
        if given:
            raise UserError(
                f"--{next(iter(given))}: given, but --like={like} says what columns are"
            )
        from moa_jax.data import folder, prepared
        from moa_jax.prepare import new_rows

        if os.path.exists(out) and Path(out).resolve().parent == Path(like).resolve():
            if Path(out).stem != folder.NEW:
                raise UserError(
                    f"--out: {out}: expected another file than one of --like, which would be lost"
                )

        described = prepared.read(like)
        if described is None:
            raise UserError(f"--like: {like}: expected a folder with {prepared.NAME}, found none")
        new_rows.apply(Path(table), described, Path(out))
        return
    columns = {role: given.pop(role) for role in ROLES if role in given}
    if "metadata" in given:
        text = given["metadata"]
        given["metadata"] = (text,) if os.path.isfile(text) else tuple(text.split(","))
        if "" in given["metadata"]:
            raise UserError("--metadata: expected files, found an empty text")
    options = Options(columns, **given)
    from moa_jax.prepare import preparation

    preparation.prepare(Path(table), Path(out), options)


def cli(arguments: Sequence[str] | None = None) -> None:
    """Runs the command line; raises what `main` raises."""
    absl_logging.set_verbosity(absl_logging.INFO)
    # In the place of absl's own handler, whose lines begin with what a user has no use for.
    logging.basicConfig(format="%(message)s", stream=sys.stderr, force=True)
    try:
        main(sys.argv[1:] if arguments is None else arguments)
    except Interrupted as error:
        raise Interrupted(error.number, "the beginning") from None


if __name__ == "__main__":
    with ending.in_one_line():
        cli()
