"""Names: which columns of features are which, which texts are one level, and which are none."""

from __future__ import annotations

import dataclasses
import functools
import math
import re
import unicodedata
from collections.abc import Iterable

from absl import logging

from moa_jax.config import DataConfig
from moa_jax.errors import UserError

PREFIX_FIELDS = ("gene_prefixes", "cell_prefixes", "ignore")
GROUPS = ("genes", "cells", "ignored")
CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)
_WHOLE = re.compile(r"(-?(?:0|[1-9][0-9]{0,15}))\.0+", re.ASCII)
# What nobody sees: marks of byte order within a file, and of where words may break or join.
INVISIBLE = "\ufeff\u200b\u200c\u200d\u2060"
_AROUND = re.compile(rf"\A[\s{INVISIBLE}]+|[\s{INVISIBLE}]+\Z")
# How missing values are written; pyarrow reads the last three words as numbers.
MISSING = frozenset("na n/a n.a. #n/a <na> none null nil missing . ? nan inf infinity".split())
# Values by which columns tell a control without treatment, in lower case.
VEHICLES = ("dmso", "negcon", "ctl_vehicle", "vehicle", "control", "neg_control", "negative")
# How the Connectivity Map marks what is missing, in numbers and texts alike.
MISSING_MARK = -666
# The minus sign, and what is written in its place.
DASHES = "-\u2010\u2011\u2012\u2013\u2014\u2212\ufe63\uff0d"


@dataclasses.dataclass(frozen=True)
class Prefixes:
    """Beginnings of names that tell the columns of a features file apart.

    A `*` in one stands for any text. Where several fit a name the longest decides.

    Attributes:
      genes, cells: of the columns of expression and of viability.
      ignored: of columns that are left out.
    """

    genes: tuple[str, ...]
    cells: tuple[str, ...]
    ignored: tuple[str, ...]

    @classmethod
    def of(cls, data: DataConfig) -> Prefixes:
        """Returns the prefixes that a configuration names.

        Raises:
          UserError: one is empty, or means two kinds of columns.
        """
        field_of: dict[str, str] = {}
        for field in PREFIX_FIELDS:
            for prefix in separate(field, getattr(data, field)):
                if not prefix:
                    raise UserError(
                        f"config.data.{field}: expected a beginning of names, found an empty text; "
                        "* stands for every column"
                    )
                if field_of.setdefault(prefix, field) != field:
                    raise UserError(
                        f"config.data.{field}: {prefix} is in config.data.{field_of[prefix]} too"
                    )
        return cls(*(getattr(data, field) for field in PREFIX_FIELDS))

    def group(self, name: str) -> str | None:
        """Returns the group of a column: `genes`, `cells`, `ignored`, or None for none of them.

        >>> prefixes = Prefixes(("Nuclei_", "*_at"), ("c-",), ("Nuclei_Location_",))
        >>> [prefixes.group(name) for name in ("Nuclei_Area", "1007_s_at", "Nuclei_Location_X")]
        ['genes', 'genes', 'ignored']
        """
        fitting = [
            (len(prefix), group)
            for group in GROUPS
            for prefix in getattr(self, group)
            if fits(prefix, name)
        ]
        return max(fitting)[1] if fitting else None


def level_key(text: str) -> str | float:
    """Returns what two texts of one level have in common.

    Texts of numbers are one level if their values are, and truth is written in any case. A
    character of several codes, as the micro sign and the Greek letter, is one.

    >>> [level_key(text) for text in ("10", "10.0", "1e1", "TRUE", "D1")]
    [10.0, 10.0, 10.0, 'true', 'D1']
    """
    text = name_of(text)
    if NUMBER.fullmatch(text):
        return float(text)
    text = unicodedata.normalize("NFKC", text)
    return text.lower() if text.lower() in ("true", "false") else text


def is_nearly(one: float, other: float) -> bool:
    """Tells whether two numbers may be one, rounded in different precisions.

    >>> is_nearly(0.37, 0.3700000047683716), is_nearly(3, 3.1)
    (True, False)
    """
    return math.isclose(one, other, rel_tol=1e-6)


def ordered_levels(texts: Iterable[str | None]) -> list[str]:
    """Returns the different levels of a column, numbers in their order and each written one way.

    >>> ordered_levels(["10", "0.1", "10.0", None, "2", "low", "high"])
    ['0.1', '2', '10', 'high', 'low']
    """
    first: dict[str | float, str] = {}
    for text in texts:
        if text is not None:
            first.setdefault(level_key(text), text)
    order = sorted(first, key=lambda key: (isinstance(key, str), key))
    return [first[key] for key in order]


def is_missing(text: str | None) -> bool:
    """Tells whether a cell that should be a name stands for none.

    >>> [is_missing(text) for text in ("NA", "-666.0", "", "--", '=""', "7", "Na+")]
    [True, True, True, True, True, False, False]
    """
    return (
        text is None
        or not (text := name_of(text))
        or not text.strip(DASHES)
        or text.lower() in MISSING
        or (text.startswith("-") and level_key(text) == MISSING_MARK)
    )


def name_of(text: str) -> str:
    """Returns a name as it is compared: nothing that is not seen around it, characters in one code.

    Nor is what keeps a spreadsheet from making a number of it.

    >>> name_of("\ufeffZelle_e\u0301 ") == "Zelle_\u00e9", name_of('="0012"')
    (True, '0012')
    """
    text = text.strip()
    if not text.isascii():
        text = unicodedata.normalize("NFC", _AROUND.sub("", text))
    if len(text) > 2 and text.startswith('="') and text.endswith('"'):
        return name_of(text[2:-1])
    return text


def on_one_line(text: str) -> str:
    r"""Returns a text with spaces for line breaks and other control characters.

    Not every reader of CSV takes them for a part of a cell.

    >>> on_one_line("Acid A\r\n(salt)")
    'Acid A (salt)'
    """
    return " ".join(CONTROL.sub(" ", text).split()) if CONTROL.search(text) else text


def id_of(text: str) -> str:
    """Returns the name of a row, a compound or a group, see `name_of`, on one line.

    It is without the `.0` that pandas gives whole numbers where a row is without one.

    >>> [id_of(text) for text in ("12.0", "-3.00", '="7.0"', "012.0", "1.5", "P1")]
    ['12', '-3', '7', '012.0', '1.5', 'P1']
    """
    text = on_one_line(name_of(text))
    found = _WHOLE.fullmatch(text)
    return found[1] if found and abs(int(found[1])) < 2**53 else text


def plain(name: str) -> str:
    """Returns what names have in common that differ by case, spaces or width alone.

    >>> plain("Acid A") == plain("acid\u00a0\uff21")
    True
    """
    return re.sub(rf"[\s{INVISIBLE}]+", "", unicodedata.normalize("NFKC", name)).casefold()


def alike(names: Iterable[str]) -> list[str]:
    """Returns the names that are one but for case, spaces or width, those of each together.

    >>> alike(["b", "Acid A", "acid a", "b"])
    ['Acid A and acid a']
    """
    spellings: dict[str, list[str]] = {}
    for name in sorted({*names}):
        spellings.setdefault(plain(name), []).append(name)
    return [" and ".join(found) for found in spellings.values() if len(found) > 1]


def tell_alike(file: object, names: Iterable[str], others: Iterable[str] = ()) -> None:
    """Logs the first name that is an earlier one, or one of others, but for case and spaces."""
    first = {plain(name): name for name in others}
    for name in names:
        if (other := first.setdefault(plain(name), name)) != name:
            line = "%s: columns %s and %s differ by case or spaces alone"
            logging.warning(line, file, other, name)
            return


def separate(field: str, texts: tuple[str, ...]) -> tuple[str, ...]:
    """Returns the texts of a field, which a flag takes for one where they are not in quotes.

    Raises:
      UserError: they are one text with a comma.
    """
    if len(texts) == 1 and "," in texts[0]:
        several = tuple(text.strip() for text in texts[0].split(","))
        raise UserError(
            f"config.data.{field}: expected each of several in quotes, "
            f'"{several}", found one text {texts[0]!r}'
        )
    return texts


def fits(prefix: str, name: str) -> bool:
    r"""Tells whether a name begins with a prefix, in which `*` stands for any text.

    >>> fits("Zelle_e\u0301", "Zelle_\u00e91"), fits("Zelle_\u00e9", "Zelle_e\u03011")
    (True, True)
    """
    if not name.isascii():  # columns of data frames are as they are
        name = unicodedata.normalize("NFC", name)
    return _pattern(prefix).match(name) is not None


@functools.lru_cache
def _pattern(prefix: str) -> re.Pattern[str]:
    prefix = unicodedata.normalize("NFC", prefix)
    return re.compile(re.escape(prefix).replace(r"\*", ".*"))


ORIGINAL_PREFIXES = Prefixes.of(DataConfig())
