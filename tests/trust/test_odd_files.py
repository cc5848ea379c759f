"""Odd input files of training and inference: each is read as what it is, or is one line."""

import bz2
import datetime
import decimal
import gzip
import os
import socket
import zipfile

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet
import pytest
from data_folders import frames, write

from moa_jax.data import columns, tables
from moa_jax.errors import UserError
from moa_jax.store import memory

TRAIN = "train_features.csv"
TREATMENT = ("cp_type", "cp_time", "cp_dose")


@pytest.fixture
def data(tmp_path):
    write(tmp_path / "data", frames())
    return tmp_path / "data"


def set_cell(folder, stem, column, value, row=2):
    frame = pd.read_csv(folder / f"{stem}.csv", dtype=str)
    frame.loc[row, column] = value
    frame.to_csv(folder / f"{stem}.csv", index=False)


def line(folder):
    """Returns what loading a folder ends with, one line."""
    with pytest.raises(UserError) as caught:
        tables.load(folder)
    assert str(caught.value).isprintable()
    return str(caught.value).removeprefix(f"{folder}/")


@pytest.mark.parametrize("value", ["1e200", "-1e39", "1e16"])
@pytest.mark.parametrize("stem", ["train_features", "test_features"])
def test_numbers_that_networks_cannot_compute_with(data, stem, value):
    set_cell(data, stem, "g-1", value)
    sig_id = "0002" if stem == "train_features" else "9002"
    assert line(data) == (
        f"{stem}.csv: column g-1, sig_id {sig_id}: expected a number between -1e+15 and 1e+15, "
        f"found {value!r}; networks cannot compute with greater ones"
    )
    genes, cells = ("g-0", "g-1", "g-2"), ("c-0", "c-1")
    with pytest.raises(UserError, match=f"sig_id {sig_id}: expected a number between"):
        list(tables.stream(data / f"{stem}.csv", genes, cells, treatment=TREATMENT))


@pytest.mark.parametrize("value", ["1e-310", "-1e15", "12345678901234.5"])
def test_numbers_that_networks_can_compute_with(data, value):
    set_cell(data, "train_features", "g-1", value)
    assert tables.load(data).features[2, 1] == float(value)


@pytest.mark.parametrize(
    "value",
    [
        "1e400",
        "9" * 401,
        "0x1p3",
        "1_000",
        "1,000,000",
        "1,5",
        "+-3",
        "0b11",
        "True",
        "12f",
        "\u0663",
    ],
    ids=range(11),
)
def test_cells_that_are_no_numbers(data, value):
    set_cell(data, "train_features", "g-1", value)
    assert line(data).startswith(f"{TRAIN}: column g-1, sig_id 0002: expected a finite number, ")


@pytest.mark.parametrize("value", ["0.5", "2", "-1", "0x1", "9" * 401], ids=range(5))
def test_targets_that_are_no_truth(data, value):
    set_cell(data, "train_targets_scored", "one", value)
    assert line(data).startswith("train_targets_scored.csv: column one, sig_id 0002: expected 0 or")


@pytest.mark.parametrize("value", ["nan", "NA", ""])
def test_targets_that_were_not_measured(data, value):
    set_cell(data, "train_targets_scored", "one", value)
    told = line(data)
    assert told.startswith("train_targets_scored.csv: column one, sig_id 0002: expected ")
    assert "config.data.missing_targets=mask" in told


@pytest.mark.parametrize("sig_id", ["a\x00b", "a\x1b[31mb", "a\tb", "a\nb", "a\x85b", "y" * 1001])
def test_ids_that_no_file_or_terminal_takes(data, sig_id):
    for stem in ("train_features", "train_targets_scored"):
        set_cell(data, stem, "sig_id", sig_id)
    found = line(data)
    assert found.startswith(f"{TRAIN}: column sig_id, row 3: expected an id ") and len(found) < 200


@pytest.mark.parametrize("sig_id", ["../../x", "/etc/passwd", "a,b", 'a"b', "\xe9", "y" * 1000])
def test_ids_that_are_only_odd(data, sig_id):
    for stem in ("train_features", "train_targets_scored", "train_targets_nonscored", "train_drug"):
        set_cell(data, stem, "sig_id", sig_id)
    assert tables.load(data).ids[2] == sig_id


def test_names_of_columns_have_no_control_characters(data):
    text = (data / TRAIN).read_text().replace("g-1", "g-1\x1b[31m", 1)
    (data / TRAIN).write_text(text)
    assert line(data) == f"{TRAIN}: column 'g-1\\x1b[31m' has control characters; take them out"


def packed(folder, names=(TRAIN,), flag=0, method=None):
    """Packs the training features, and says that they are encrypted or of another method."""
    content = (folder / TRAIN).read_bytes()
    (folder / TRAIN).unlink()
    path = folder / f"{TRAIN}.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in names:
            archive.writestr(name, content)
    altered = bytearray(path.read_bytes())
    for signature, place in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        start = altered.find(signature)
        altered[start + place] |= flag
        altered[start + place + 2] = altered[start + place + 2] if method is None else method
    path.write_bytes(altered)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"flag": 1}, "is encrypted, password required for extraction; pack it without a password"),
        ({"flag": 0x41}, "strong encryption (flag bit 6); pack it without a password"),
        ({"method": 9}, "is not supported; pack it anew with deflate, or as .csv.gz"),
        ({"method": 98}, "is not supported; pack it anew with deflate, or as .csv.gz"),
        ({"method": 14}, ""),
        ({"method": 12}, ""),
        ({"names": ("a.csv", "b.csv")}, "expected one file within, found 2: a.csv, b.csv"),
    ],
    ids=["encrypted", "strong", "deflate64", "ppmd", "no lzma", "no bzip2", "two"],
)
def test_archives_that_cannot_be_unpacked(data, changes, expected):
    packed(data, **changes)
    found = line(data)
    assert found.startswith(f"{TRAIN}.zip: ") and found.endswith(expected)


@pytest.mark.parametrize("method", [zipfile.ZIP_LZMA, zipfile.ZIP_BZIP2])
def test_damaged_archives_of_other_methods(data, method):
    content = (data / TRAIN).read_bytes()
    path = data / f"{TRAIN}.zip"
    with zipfile.ZipFile(path, "w", method) as archive:
        archive.writestr(TRAIN, content)
    (data / TRAIN).unlink()
    assert len(tables.load(data)) == 12
    damaged = bytearray(path.read_bytes())
    damaged[60:90] = bytes(30)
    path.write_bytes(damaged)
    assert line(data).startswith(f"{TRAIN}.zip: cannot be read as CSV in UTF-8: ")


def test_an_archive_of_blank_lines_ends(data):
    (data / TRAIN).unlink()
    with gzip.open(data / f"{TRAIN}.gz", "wb", 1) as unpacked:
        for _ in range(64):
            unpacked.write(b"\n" * 2**20)
    assert line(data).startswith(f"{TRAIN}.gz: expected a table, found a first line without names")


def test_a_table_is_held_in_memory(data, monkeypatch):
    expected = "expected a table that fits in memory, found more than 479 B, which is what this"
    monkeypatch.setattr(memory, "machine_bytes", lambda: 12 * 5 * 8 - 1)
    assert line(data).startswith(f"{TRAIN}: {expected}")
    with pytest.raises(UserError, match=f"{TRAIN}: {expected}"):
        columns.read(data / TRAIN)
    assert len(list(tables.stream(data / TRAIN, rows=1))) == 12


def special(path, kind):
    """Puts what is no file in the place of one."""
    path.unlink(missing_ok=True)
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "socket":
        with socket.socket(socket.AF_UNIX) as made:
            here = os.open(path.parent, os.O_RDONLY)
            made.bind(f"/proc/self/fd/{here}/{path.name}")  # a socket's path is short
            os.close(here)
    else:
        path.symlink_to({"device": "/dev/zero", "dangling": "nowhere", "loop": path.name}[kind])


SPECIAL = ("fifo", "socket", "device", "dangling", "loop")


@pytest.mark.parametrize("kind", SPECIAL)
def test_what_is_no_file_is_not_opened(data, kind):
    nowhere = "a symbolic link that leads nowhere; mend or remove it"
    found = "a pipe or a device" if kind in ("fifo", "socket", "device") else nowhere
    for name in ("test_features.csv", TRAIN):
        special(data / name, kind)
        with pytest.raises(UserError, match=f"{name}: expected a file, found {found}"):
            list(tables.stream(data / name))
    assert line(data) == f"{TRAIN}: expected a file, found {found}"


@pytest.mark.parametrize("kind", SPECIAL)
def test_what_cannot_be_read_beside_the_files_is_told(data, kind, caplog):
    special(data / "notes", kind)
    tables.load(data)
    found = [m for m in caplog.messages if m.startswith(f"{data}/notes: not read: ")]
    assert len(found) == 1


def test_what_a_mode_forbids_beside_the_files_is_told(data, caplog, monkeypatch):
    (data / "notes.txt").write_text("")
    monkeypatch.setattr(os, "access", lambda path, mode: path.name != "notes.txt")
    tables.load(data)
    assert f"{data}/notes.txt: not read: its mode forbids it" in caplog.messages


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_what_a_mode_forbids_is_told(data):
    (data / TRAIN).chmod(0)
    assert line(data).endswith("Permission denied; make it readable")


def test_other_tables_beside_the_files_are_told(data, caplog):
    caplog.set_level("INFO")
    for name in ("a.csv", "b.CSV", "c.xlsx", "d.tsv.bz2", "readme.md"):
        (data / name).write_bytes(bz2.compress(b"x"))
    tables.load(data)
    assert f"{data}: not read: a.csv, b.CSV, c.xlsx and 1 more" in caplog.messages


@pytest.mark.parametrize("path", ["a" * 300, "b/" * 3000, "\0x"], ids=["long", "deep", "null"])
def test_paths_that_cannot_be(path):
    with pytest.raises(UserError, match="expected a folder with train_features, found none"):
        tables.load(path)
    with pytest.raises(UserError, match="expected a file, found none"):
        list(tables.stream(f"{path}.csv"))
    with pytest.raises(UserError, match="config.data.groups: expected auto, none, compound or"):
        tables.read_groups(path, None)


def stored(folder, column, values):
    """Stores the training features as parquet, a column of them replaced."""
    table = pa.Table.from_pandas(pd.read_csv(folder / TRAIN, dtype={"sig_id": str}))
    (folder / TRAIN).unlink()
    place = table.column_names.index(column)
    table = table.set_column(place, column, values(table.column(column)))
    pyarrow.parquet.write_table(table, folder / "train_features.parquet")


@pytest.mark.parametrize(
    ("column", "cell", "kind"),
    [
        ("g-1", b"\xff\xfe", None),
        ("g-1", b"\xff\xfe", pa.binary(2)),
        ("g-1", [1.0], None),
        ("g-1", {"a": 1}, None),
        ("g-1", datetime.datetime(2020, 1, 1), None),
        ("g-1", decimal.Decimal("1e60"), pa.decimal256(76, 2)),
        ("g-1", 2**64 - 1, pa.uint64()),
        ("g-1", None, None),
        ("cp_type", b"\xff", None),
        ("cp_dose", {"a": 1}, None),
    ],
    ids=range(10),
)
def test_columns_of_parquet_that_are_no_numbers_or_levels(data, column, cell, kind):
    stored(data, column, lambda _: pa.array([cell] * 12, kind))
    assert line(data).startswith(f"train_features.parquet: column {column}, sig_id 0000: expected ")


@pytest.mark.parametrize(
    "change",
    [
        lambda column: column.cast(pa.float16()),
        lambda column: column.dictionary_encode(),
        lambda column: pa.array([decimal.Decimal("1.5")] * 12),
    ],
    ids=["float16", "dictionary", "decimal"],
)
def test_columns_of_parquet_that_are_numbers_of_another_kind(data, change):
    stored(data, "g-1", change)
    assert np.isfinite(tables.load(data).features).all()


def test_no_rows_and_one_row(data):
    for name in ("train_features", "train_targets_scored", "train_targets_nonscored", "train_drug"):
        rows = (data / f"{name}.csv").read_text().splitlines()
        (data / f"{name}.csv").write_text("\n".join(rows[:2]) + "\n")
    assert len(tables.load(data)) == 1
    header = (data / TRAIN).read_text().splitlines()[0]
    (data / TRAIN).write_text(f"{header}\n")
    assert line(data) == f"{TRAIN}: expected rows, found only a header"
