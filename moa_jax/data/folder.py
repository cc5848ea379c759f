"""Files of a data folder: the known ones by name, and a line for what only looks like one."""

from __future__ import annotations

import contextlib
import difflib
import os
import re
import zipfile
from pathlib import Path

from absl import logging

from moa_jax.data import formats, packed
from moa_jax.errors import UserError
from moa_jax.store import files

NEW, TEST_DRUG = "test_features", "test_drug"
STEMS = (
    "train_features",
    "train_targets_scored",
    "train_targets_nonscored",
    "train_drug",
    NEW,
    TEST_DRUG,
    "sample_submission",
)
# What tables, and archives of them, have among their suffixes.
TABULAR = frozenset(
    "csv tsv tab txt dat parquet pq feather arrow ipc orc xls xlsx xlsm ods h5 hdf5 npz npy pkl "
    "pickle rds rdata json gct gctx gz gzip zip bz2 xz zst lz4 7z rar tar tgz".split()
)
# Other names, without what separates their words, that people give to the same files.
_OF = "(?:x|data|set|features?|rows|profiles|expression)*"
OTHER_NAMES = {
    "train_targets_nonscored": "(?:train)?(?:targets?)?nonscored(?:targets?)?(?:train)?",
    "train_targets_scored": "(?:train(?:ing)?)?(?:y|targets?|labels?)(?:scored|train(?:ing)?)?",
    "train_drug": "(?:train)?(?:drugs?|compounds?)(?:ids?|names?)?(?:train)?",
    "test_drug": "test(?:ing)?(?:drugs?|compounds?)(?:ids?|names?)?",
    "sample_submission": "submission(?:sample|example|format|template)|(?:example|test)submission",
    "train_features": f"{_OF}train(?:ing)?{_OF}",
    "test_features": f"{_OF}test(?:ing)?{_OF}",
}
# How alike a name and a known one are that are probably meant to be the same.
ALIKE = 0.85


def known(folder: Path) -> dict[str, Path]:
    """Returns the files that a folder has of the known ones, by stem.

    What has a known stem in another case or with another suffix would be left out in silence: it is
    an error where the stem is not there otherwise. Of names that are only alike the log tells, and
    of other tables, and of what cannot be read.

    Raises:
      UserError: there are several files of a stem, or one that only looks like it; a symbolic link
        leads nowhere; the folder cannot be read.
    """
    try:
        names = sorted(path.name for path in folder.iterdir() if path.name[0] not in ".~")
    except OSError as error:
        raise UserError(f"{folder}: cannot be read: {error.strerror}") from None
    found: dict[str, Path] = {}
    tables: list[str] = []
    for stem in STEMS:
        of_stem = [name for suffix in formats.SUFFIXES if (name := f"{stem}{suffix}") in names]
        if len(of_stem) > 1:
            raise UserError(f"{folder}: expected one file {stem}, found {' and '.join(of_stem)}")
        if of_stem:
            found[stem] = folder / of_stem[0]
            formats.check_file(found[stem])
            _tell_member(found[stem], stem)
    for name in sorted(set(names) - {path.name for path in found.values()}):
        meant, is_certain = _meant(name)
        if not is_certain and (within := _known_within(folder / name)):
            line = "%s: not read, though it holds %s: files are read from the folder itself"
            logging.warning(line, folder / name, within)
            continue
        if meant is None:
            problem = _problem(folder / name)
            if problem:
                logging.warning("%s: not read: %s", folder / name, problem)
            elif _is_tabular(name):
                tables.append(name)
            continue
        line = f"{folder / name}: not read; {meant} is read from {formats.KNOWN}"
        if is_certain and meant not in found:
            raise UserError(f"{line}: rename or convert it, or move it elsewhere")
        logging.warning("%s", line)
    if tables:
        more = f" and {len(tables) - 3} more" if len(tables) > 3 else ""
        logging.info("%s: not read: %s%s", folder, ", ".join(tables[:3]), more)
    return found


def _problem(path: Path) -> str | None:
    """Returns why what stands at a path could not be read, whatever it is called."""
    if (kind := files.kind(path)) not in ("a file", "a folder"):
        return kind
    return None if os.access(path, os.R_OK) else "its mode forbids it"


def _is_tabular(name: str) -> bool:
    """Tells whether one of a name's suffixes is that of a table or of an archive."""
    return not TABULAR.isdisjoint(suffix.lower() for suffix in name.split(".")[1:])


def _known_within(path: Path) -> str | None:
    """Returns the first file of a known stem in a folder; None for a file."""
    with contextlib.suppress(OSError):
        names = sorted(inner.name for inner in path.iterdir()) if path.is_dir() else []
        return next((name for name in names if _meant(name)[1]), None)
    return None


def _tell_member(path: Path, stem: str) -> None:
    """Logs where the one file within an archive has another known stem."""
    with contextlib.suppress(OSError, zipfile.BadZipFile):
        members = packed.members(path) if zipfile.is_zipfile(path) else []
        other, _ = _meant(Path(members[0]).name) if len(members) == 1 else (None, False)
        if other not in (None, stem):
            logging.warning(
                "%s: holds %s, which is read as %s; is it packed under the wrong name?",
                path, members[0], stem,
            )  # fmt: skip


def _meant(name: str) -> tuple[str | None, bool]:
    """Returns the stem that a name resembles, and whether it is that one but for its spelling.

    >>> names = "Test_Features.CSV", "test_features (1).csv", "features_test.csv", "notes.csv"
    >>> [_meant(name) for name in names]
    [('test_features', True), ('test_features', False), ('test_features', False), (None, False)]
    """
    base, *suffixes = name.split(".")
    if suffixes and not _is_tabular(name):
        return None, False
    plain = re.sub(r"[\W_]+", "", base.lower())
    stem_of = {stem.replace("_", ""): stem for stem in STEMS}
    if plain in stem_of:
        return stem_of[plain], True
    within = [known for known in stem_of if known in plain]
    if alike := within or difflib.get_close_matches(plain, stem_of, n=1, cutoff=ALIKE):
        return stem_of[alike[0]], False
    words = sorted(re.findall(r"[a-z]+", base.lower()))
    for stem, pattern in OTHER_NAMES.items():
        if words == sorted(stem.split("_")) or re.fullmatch(pattern, plain.rstrip("0123456789")):
            return stem, False
    return None, False
