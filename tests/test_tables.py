"""Reading a data folder: what is accepted, and one clear line for what is not."""

import dataclasses
import functools
import gzip
import io
import itertools
import shutil
import threading
import weakref
import zipfile

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from data_folders import FILES, frames, same, write

from moa_jax.data import formats, tables
from moa_jax.data.ahead import read_ahead
from moa_jax.errors import UserError


def test_folder_is_read(tmp_path):
    content = frames()
    write(tmp_path / "a", content)
    data = tables.load(tmp_path / "a")
    train = content["train_features"]
    assert data.ids.tolist() == train["sig_id"].tolist()
    assert (data.genes, data.cells) == (("g-0", "g-1", "g-2"), ("c-0", "c-1"))
    np.testing.assert_array_equal(data.gene_values, train[["g-0", "g-1", "g-2"]])
    np.testing.assert_array_equal(data.cell_values, train[["c-0", "c-1"]])
    assert data.is_control.tolist() == (train["cp_type"] == "ctl_vehicle").tolist()
    assert data.scored.names == ("one", "two, with comma")
    assert data.scored.values.dtype == np.uint8
    assert data.nonscored.names == ("three",)
    assert data.drug_id[:3].tolist() == ["d0", "d0", "d1"]
    assert len(data.test) == 5 and data.test.scored is None
    assert data.submission_ids.tolist() == content["sample_submission"]["sig_id"].tolist()
    some = data.take(np.array([3, 1]))
    assert some.ids.tolist() == [data.ids[3], data.ids[1]] and some.test is None


@pytest.mark.parametrize("suffix", formats.SUFFIXES)
def test_every_suffix_gives_the_same(tmp_path, suffix):
    write(tmp_path / "a", frames())
    write(tmp_path / "b", frames(), suffix)
    same(tables.load(tmp_path / "a"), tables.load(tmp_path / "b"))


def test_order_of_rows_does_not_matter(tmp_path):
    content = frames()
    write(tmp_path / "a", content)
    for stem in FILES[1:4]:
        content[stem] = content[stem].sample(frac=1, random_state=1)
    write(tmp_path / "b", content)
    same(tables.load(tmp_path / "a"), tables.load(tmp_path / "b"))


def test_order_of_columns_does_not_matter(tmp_path):
    content = frames()
    write(tmp_path / "a", content)
    content["test_features"] = content["test_features"][content["test_features"].columns[::-1]]
    write(tmp_path / "b", content)
    one, two = tables.load(tmp_path / "a").test, tables.load(tmp_path / "b").test
    np.testing.assert_array_equal(one.features, two.features)


@pytest.mark.parametrize("absent", [*FILES[2:], "c-", "g-"])
def test_optional_parts_may_be_absent(tmp_path, absent):
    content = frames()
    content.pop(absent, None)
    for stem in ("train_features", "test_features"):
        if stem in content:
            names = [n for n in content[stem].columns if not n.startswith(absent)]
            content[stem] = content[stem][names]
    write(tmp_path / "a", content)
    data = tables.load(tmp_path / "a")
    assert (data.nonscored is None) == (absent == "train_targets_nonscored")
    assert (data.drug_id is None) == (absent == "train_drug")
    assert (data.test is None) == (absent == "test_features")
    assert (data.submission_ids is None) == (absent in ("sample_submission", "test_features"))
    assert (not data.cells) == (absent == "c-") and (not data.genes) == (absent == "g-")


def test_times_may_be_written_as_floats_or_text(tmp_path):
    content = frames()
    write(tmp_path / "a", content)
    content["train_features"]["cp_time"] = content["train_features"]["cp_time"].astype(float)
    write(tmp_path / "b", content)
    content["train_features"]["cp_time"] = (
        content["train_features"]["cp_time"].astype(int).astype(str)
    )
    write(tmp_path / "c", content, ".parquet")
    for other in "bc":
        same(tables.load(tmp_path / "a"), tables.load(tmp_path / other))


def test_other_levels(tmp_path):
    content = frames()
    content["train_features"]["cp_time"] = 6
    content.pop("test_features")
    write(tmp_path / "a", content)
    levels = dataclasses.replace(tables.ORIGINAL_LEVELS, cp_time=(6,))
    assert tables.load(tmp_path / "a", levels).cp_time.tolist() == [6] * 12


def test_embedded_sample():
    data = tables.load(tables.sample_folder())
    assert (len(data), len(data.genes), len(data.cells)) == (423, 772, 0)
    assert (len(data.scored.names), len(data.nonscored.names)) == (23, 27)
    assert (int(data.is_control.sum()), len(data.test), int(data.test.is_control.sum())) == (
        38,
        106,
        10,
    )
    assert set(data.cp_time) == {24} and len(data.submission_ids) == 106


@pytest.mark.parametrize("suffix", formats.SUFFIXES)
def test_streaming_gives_the_rows_of_load_in_parts(tmp_path, monkeypatch, suffix):
    monkeypatch.setattr(formats, "CSV_BLOCK", 2000)  # about 45 rows
    write(tmp_path, frames(rows=230), suffix)
    data = tables.load(tmp_path)
    file = tmp_path / f"train_features{suffix}"
    parts = list(tables.stream(file, data.genes, data.cells, tables.ORIGINAL_LEVELS, rows=100))
    assert [len(part) for part in parts] == [100, 100, 30]
    for field in ("ids", "features", "cp_time", "cp_dose", "is_control"):
        joined = np.concatenate([getattr(part, field) for part in parts])
        np.testing.assert_array_equal(joined, getattr(data, field))


def test_the_next_part_is_read_meanwhile():
    begun = [threading.Event() for _ in range(3)]

    def parts():
        for number, event in enumerate(begun):
            event.set()
            yield number
        raise UserError("the last part is damaged")

    found = read_ahead(parts())
    assert next(found) == 0 and begun[1].wait(10)
    assert not begun[2].wait(0.05)
    assert [next(found), next(found)] == [1, 2]
    with pytest.raises(UserError, match="the last part"):
        next(found)


def test_what_is_not_read_to_its_end_is_closed():
    closed = []

    def parts():
        try:
            yield from range(9)
        finally:
            closed.append(True)

    made = parts()
    found = read_ahead(made)
    assert next(found) == 0 and not closed
    found.close()
    assert closed and next(made, None) is None


def test_a_wrong_number_is_shown_in_its_column_among_many(tmp_path):
    frame = pd.DataFrame({f"g-{n}": np.arange(3.0) + n for n in range(150)})
    frame.insert(0, "sig_id", ["a", "b", "c"])
    frame.to_csv(tmp_path / "new.csv", index=False)
    read = functools.partial(tables.read_features, tmp_path / "new.csv", largest=1e15)
    np.testing.assert_array_equal(read().features, frame.iloc[:, 1:])
    for wrong, what in ((np.inf, "a finite number"), (-1e16, "a number between -1e.15 and 1e.15")):
        frame.loc[1, "g-130"] = wrong
        frame.to_csv(tmp_path / "new.csv", index=False)
        with pytest.raises(UserError, match=f"column g-130, sig_id b: expected {what}"):
            read()


def test_parts_are_whole_across_row_groups(tmp_path):
    file = tmp_path / "new.parquet"
    frames(rows=25)["train_features"].to_parquet(file, index=False, row_group_size=4)
    assert [len(part) for part in tables.stream(file, rows=10)] == [10, 10, 5]


def test_expected_columns_decide_the_order(tmp_path):
    frame = frames()["train_features"]
    frame[frame.columns[::-1]].to_csv(tmp_path / "new.csv", index=False)
    (part,) = tables.stream(tmp_path / "new.csv", ("g-2", "g-0", "g-1"), ("c-1", "c-0"))
    np.testing.assert_array_equal(part.features, frame[["g-2", "g-0", "g-1", "c-1", "c-0"]])


def cut_gzip(content):
    return gzip.compress(content)[:-2000]


def zip_with_a_changed_digit(content):
    whole = io.BytesIO()
    with zipfile.ZipFile(whole, "w") as archive:
        archive.writestr("new.csv", content)
    data = bytearray(whole.getvalue())
    last_digit = data.rindex(content[-20:]) + 18
    data[last_digit] = ord("0") if data[last_digit] != ord("0") else ord("1")
    return bytes(data)


@pytest.mark.parametrize(
    ("suffix", "broken", "message"),
    [
        (
            ".csv",
            lambda c: c + b"x,trt_cp,24,D1,1,2,oops,4,5\n",
            "g-2, sig_id x: expected a finite",
        ),
        (".csv", lambda c: c + b"x,trt_cp\n", "Expected 9 columns, got 2: x,trt_cp"),
        (".csv.gz", cut_gzip, "Compressed file ended"),
        (".csv.zip", zip_with_a_changed_digit, "Bad CRC-32"),
    ],
)
def test_parts_arrive_before_a_broken_end(tmp_path, monkeypatch, suffix, broken, message):
    monkeypatch.setattr(formats, "CSV_BLOCK", 1 << 14)
    content = frames(rows=20_000)["train_features"].to_csv(index=False).encode()
    file = tmp_path / f"new{suffix}"
    file.write_bytes(broken(content))
    parts = tables.stream(file, rows=1000)
    assert [len(part) for part in itertools.islice(parts, 2)] == [1000, 1000]
    with pytest.raises(UserError) as caught:
        list(parts)
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_stream_can_be_left(tmp_path):
    write(tmp_path, {"new": frames(rows=50)["train_features"]})
    parts = tables.stream(tmp_path / "new.csv", rows=10)
    assert len(next(parts)) == 10
    parts.close()
    (tmp_path / "new.csv").unlink()


def test_numbering_that_pandas_writes_is_not_a_column(tmp_path):
    frame = frames()["train_features"]
    frame.sort_values("g-0").to_parquet(tmp_path / "new.parquet")
    found = tables.read_features(tmp_path / "new.parquet")
    assert found.ids.tolist() == frame.sort_values("g-0")["sig_id"].tolist()
    assert found.genes == ("g-0", "g-1", "g-2")


def test_memory_of_parquet_does_not_grow_with_its_row_group(tmp_path):
    file, pool = tmp_path / "new.parquet", pa.default_memory_pool()

    def most_held(rows):
        table = {"sig_id": np.arange(rows), "cp_type": "trt_cp", "cp_time": 24, "cp_dose": "D1"}
        for index in range(4):
            table[f"g-{index}"] = np.random.default_rng(index).normal(size=rows)
        pd.DataFrame(table).to_parquet(file, index=False, compression=None, row_group_size=rows)
        before = pool.bytes_allocated()
        return max(pool.bytes_allocated() - before for _ in tables.stream(file, rows=2048))

    # Pages fill up to a fixed size; held whole, the larger row group takes 2.3 times as much.
    assert most_held(600_000) < 1.8 * most_held(150_000)


def test_blocks_are_stacked_without_a_second_table():
    class Watched(list):
        def pop(self):
            seen.append(sum(one() is not None for one in alive))
            return super().pop()

    blocks, seen = Watched(np.full((rows, 5), float(rows)) for rows in (4, 3, 4, 1)), []
    alive, expected = [weakref.ref(block) for block in blocks], np.concatenate(blocks)
    np.testing.assert_array_equal(tables._stacked(blocks), expected)
    # Each block is gone before the one after the next is looked at.
    assert seen == [4, 4, 3, 2] and not any(one() is not None for one in alive)


def test_rows_that_follow_one_another_are_not_copied(tmp_path):
    write(tmp_path, frames())
    data = tables.load(tmp_path)
    positions = np.arange(len(data))
    for rows in (positions, positions[1:4], positions[2:3], slice(1, 3)):
        taken = data.take(rows)
        assert np.shares_memory(taken.features, data.features)
        np.testing.assert_array_equal(taken.features, data.features.copy()[rows])
        assert taken.ids.tolist() == data.ids[rows].tolist()
    for rows in (positions[::-1], positions[::2], positions[[1, 1]], positions - 2, positions > 0):
        taken = data.take(rows)
        assert not np.shares_memory(taken.features, data.features)
        np.testing.assert_array_equal(taken.features, data.features[rows])
    assert len(data.take(positions[:0])) == 0


def test_repeated_ids_are_found_across_parts(tmp_path):
    frame = pd.concat([frames()["train_features"]] * 2)
    frame.to_csv(tmp_path / "new.csv", index=False)
    parts = tables.stream(tmp_path / "new.csv", rows=7)
    assert len(next(parts)) == 7
    with pytest.raises(UserError, match="new.csv: sig_id 0000 stands more than once"):
        next(parts)


@pytest.mark.parametrize("suffix", formats.SUFFIXES)
def test_ids_that_look_like_numbers_stay_text(tmp_path, suffix):
    content = frames(rows=4, test_rows=3)
    ids = ["0012", "12", "1e3", "12.50"]
    for stem in FILES[:4]:
        content[stem]["sig_id"] = ids
    content["train_drug"]["drug_id"] = ["007", "7", "1e1", "1.50"]
    write(tmp_path, content, suffix)
    data = tables.load(tmp_path)
    assert data.ids.tolist() == ids
    assert data.drug_id.tolist() == ["007", "7", "1e1", "1.50"]


def test_cells_of_csv_are_parsed_exactly(tmp_path):
    """Every double survives its shortest decimal form."""
    frame = frames(rows=2000)["train_features"]
    generator = np.random.default_rng(0)
    frame["g-0"] = generator.normal(size=2000) * 10.0 ** generator.integers(-200, 200, 2000)
    frame.to_csv(tmp_path / "new.csv", index=False)
    (part,) = tables.stream(tmp_path / "new.csv")
    np.testing.assert_array_equal(part.features[:, 0], frame["g-0"])


@pytest.mark.parametrize(
    "change",
    [
        lambda b: b"\xef\xbb\xbf" + b,
        lambda b: b.replace(b"\n", b"\r\n"),
        lambda b: b.rstrip(b"\n"),
        lambda b: b + b"\n\n",
    ],
    ids=["byte order mark", "windows", "no last newline", "blank lines"],
)
def test_common_variants_of_csv_are_read(tmp_path, change):
    content = frames()
    write(tmp_path / "a", content)
    write(tmp_path / "b", content)
    for stem in FILES:
        text(stem, change)(tmp_path / "b")
    same(tables.load(tmp_path / "a"), tables.load(tmp_path / "b"))


def edit(stem, column, value, row=2):
    def change(folder):
        frame = pd.read_csv(folder / f"{stem}.csv", dtype={"sig_id": str}).astype(object)
        frame.loc[row, column] = value
        frame.to_csv(folder / f"{stem}.csv", index=False)

    return change


def rewrite(stem, change):
    def apply(folder):
        frame = pd.read_csv(folder / f"{stem}.csv", dtype={"sig_id": str})
        change(frame).to_csv(folder / f"{stem}.csv", index=False)

    return apply


def text(stem, change):
    def apply(folder):
        path = folder / f"{stem}.csv"
        path.write_bytes(change(path.read_bytes()))

    return apply


def truncated_gzip(folder):
    path = folder / "train_features.csv"
    data = gzip.compress(path.read_bytes())
    (folder / "train_features.csv.gz").write_bytes(data[: len(data) // 2])
    path.unlink()


def broken_zip(folder):
    (folder / "train_features.csv").rename(folder / "train_features.csv.zip")


def corrupted_gzip(folder):
    path = folder / "train_features.csv"
    data = bytearray(gzip.compress(path.read_bytes()))
    data[60:80] = bytes(20)
    (folder / "train_features.csv.gz").write_bytes(data)
    path.unlink()


def encrypted_zip(folder):
    path = folder / "train_drug.csv"
    whole = io.BytesIO()
    with zipfile.ZipFile(whole, "w") as archive:
        archive.write(path, path.name)
    data = bytearray(whole.getvalue())
    # The flags stand at byte 6 of the file's header and at byte 8 of its entry in the directory.
    data[6] |= 1
    data[data.index(b"PK\x01\x02") + 8] |= 1
    (folder / "train_drug.csv.zip").write_bytes(data)
    path.unlink()


def two_in_a_zip(folder):
    with zipfile.ZipFile(folder / "train_drug.csv.zip", "w") as archive:
        archive.write(folder / "train_drug.csv", "a.csv")
        archive.write(folder / "train_drug.csv", "b.csv")
    (folder / "train_drug.csv").unlink()


def nested_parquet(folder):
    frame = pd.read_csv(folder / "train_features.csv", dtype={"sig_id": str})
    frame.assign(cp_dose=[["D1"]] * len(frame)).to_parquet(folder / "train_features.parquet")
    (folder / "train_features.csv").unlink()


def broken_parquet(folder):
    (folder / "train_features.csv").rename(folder / "train_features.parquet")


BAD = {
    "missing folder": (shutil.rmtree, "expected a folder with train_features"),
    "missing features": (
        lambda f: (f / "train_features.csv").unlink(),
        "expected a file train_features (.csv, .tsv, ",
    ),
    "missing targets": (
        lambda f: (f / "train_targets_scored.csv").unlink(),
        "expected a file train_targets_scored (.csv, ",
    ),
    "two files": (
        lambda f: shutil.copy(f / "train_drug.csv", f / "train_drug.parquet"),
        "expected one file train_drug, found train_drug.csv and train_drug.parquet",
    ),
    "folder for a file": (
        lambda f: ((f / "train_drug.csv").unlink(), (f / "train_drug.csv").mkdir()),
        "train_drug.csv: expected a file, found a folder",
    ),
    "empty file": (text("train_features", lambda b: b""), "found an empty file"),
    "header only": (
        text("train_features", lambda b: b.split(b"\n")[0] + b"\n"),
        "train_features.csv: expected rows, found only a header",
    ),
    "duplicate column": (
        text("train_features", lambda b: b.replace(b"g-1", b"g-0", 1)),
        "column g-0 stands more than once",
    ),
    "duplicate id": (
        edit("train_features", "sig_id", "0001"),
        "train_features.csv: sig_id 0001 stands more than once",
    ),
    "duplicate id in targets": (
        edit("train_targets_scored", "sig_id", "0001"),
        "train_targets_scored.csv: sig_id 0001 stands more than once",
    ),
    "missing id": (
        edit("train_features", "sig_id", None),
        "column sig_id, row 3: expected an id, found nothing",
    ),
    "other ids in targets": (
        edit("train_targets_scored", "sig_id", "x"),
        "train_targets_scored.csv: expected sig_id 0002 of train_features, found none",
    ),
    "fewer drugs": (
        rewrite("train_drug", lambda t: t.iloc[1:]),
        "train_drug.csv: expected sig_id 0000 of train_features, found none",
    ),
    "ids without zeros": (
        rewrite("train_drug", lambda t: t.assign(sig_id=t["sig_id"].str[1:])),
        "of train_features, found none; found 000 instead? Zeros at the beginning count",
    ),
    "more targets than features": (
        rewrite("train_targets_nonscored", lambda t: pd.concat([t, t.tail(1).assign(sig_id="x")])),
        "train_targets_nonscored.csv: sig_id x is not in train_features",
    ),
    "missing column": (
        rewrite("test_features", lambda t: t.drop(columns="g-1")),
        "test_features.csv: expected a column g-1, found none",
    ),
    "renamed column": (
        rewrite("test_features", lambda t: t.rename(columns={"g-1": "g_1"})),
        "expected a column g-1, found none; found g_1 instead?",
    ),
    "extra column": (
        rewrite("test_features", lambda t: t.assign(**{"g-9": 0})),
        "test_features.csv: column g-9 is not expected",
    ),
    "unknown column": (
        rewrite("train_features", lambda t: t.assign(weight=1)),
        "train_features.csv: column weight is not expected",
    ),
    "no time": (
        rewrite("train_features", lambda t: t.drop(columns="cp_time")),
        "expected a column cp_time, found none",
    ),
    "no ids": (
        rewrite("train_features", lambda t: t.rename(columns={"sig_id": "id"})),
        "expected a column sig_id, found id, cp_type, cp_time",
    ),
    "no features": (
        rewrite("train_features", lambda t: t[["sig_id", "cp_type", "cp_time", "cp_dose"]]),
        "expected columns g-... or c-..., found none",
    ),
    "not a number": (
        edit("train_features", "g-2", "high"),
        "column g-2, sig_id 0002: expected a finite number, found 'high'",
    ),
    "empty cell": (
        edit("train_features", "c-0", None),
        "column c-0, sig_id 0002: expected a finite number, found nothing",
    ),
    "infinity": (
        edit("train_features", "c-1", "inf"),
        "column c-1, sig_id 0002: expected a finite number, found 'inf'",
    ),
    "unknown type": (
        edit("train_features", "cp_type", "trt"),
        "column cp_type, sig_id 0002: expected one of trt_cp, ctl_vehicle, found 'trt'; "
        "set config.data.treated_type or config.data.control_type",
    ),
    "unknown dose": (
        edit("train_features", "cp_dose", "D3"),
        "expected one of D1, D2, found 'D3'; set config.data.cp_doses",
    ),
    "unknown time": (
        edit("test_features", "cp_time", 96),
        "column cp_time, sig_id 9002: expected one of 24, 48, 72, found '96'; "
        "set config.data.cp_times",
    ),
    "time as a word": (
        edit("train_features", "cp_time", "day"),
        "expected one of 24, 48, 72, found 'day'; set config.data.cp_times",
    ),
    "target not binary": (
        edit("train_targets_scored", "one", 2),
        "column one, sig_id 0002: expected 0 or 1, found '2'",
    ),
    "target missing": (
        edit("train_targets_scored", "one", None),
        "column one, sig_id 0002: expected a finite number, found nothing",
    ),
    "no targets": (
        rewrite("train_targets_scored", lambda t: t[["sig_id"]]),
        "expected target columns beside sig_id, found none",
    ),
    "drug missing": (
        edit("train_drug", "drug_id", None),
        "train_drug.csv: column drug_id, sig_id 0002: expected a text, found nothing",
    ),
    "other submission targets": (
        rewrite("sample_submission", lambda t: t.rename(columns={"one": "onee"})),
        "sample_submission.csv: expected a column one, found none; found onee instead?",
    ),
    "other submission ids": (
        edit("sample_submission", "sig_id", "x"),
        "sample_submission.csv: expected sig_id 9002 of test_features, found none",
    ),
    "fewer submission ids": (
        rewrite("sample_submission", lambda t: t.iloc[1:]),
        "expected sig_id 9004 of test_features, found none",
    ),
    "truncated gzip": (
        truncated_gzip,
        "train_features.csv.gz: cannot be read as CSV in UTF-8: Compressed file ended",
    ),
    "broken zip": (
        broken_zip,
        "train_features.csv.zip: cannot be read as CSV in UTF-8: File is not a zip file",
    ),
    "broken parquet": (broken_parquet, "train_features.parquet: cannot be read as parquet: "),
    "bars": (
        text("train_features", lambda b: b.replace(b",", b"|")),
        "expected columns delimited by tabs or commas or semicolons, found '|' in 'sig_id|cp_type",
    ),
    "header in another encoding": (
        text("train_features", lambda b: b.decode().encode("utf-16")),
        "train_features.csv: cannot be read as CSV in UTF-8: ",
    ),
    "unclosed quote": (
        text("train_features", lambda b: b + b'"x,trt_cp\n24,D1\n'),
        'Expected 9 columns, got 1: "x,trt_cp 24,D1',
    ),
    "short row": (
        text("train_features", lambda b: b + b"x,trt_cp,24\n"),
        "Expected 9 columns, got 3: x,trt_cp,24",
    ),
    "truth for a number": (
        rewrite("train_features", lambda t: t.assign(**{"g-0": True})),
        "column g-0, sig_id 0000: expected a finite number, found 'True'",
    ),
    "NaN": (
        edit("train_features", "g-0", "NaN"),
        "column g-0, sig_id 0002: expected a finite number, found 'NaN'",
    ),
    "no mark for the type": (
        edit("train_features", "cp_type", None),
        "column cp_type, sig_id 0002: expected one of trt_cp, ctl_vehicle, found nothing",
    ),
    "several columns missing": (
        rewrite("test_features", lambda t: t.drop(columns=["g-1", "c-0", "c-1"])),
        "expected a column g-1 and 2 more, found none",
    ),
    "file for the folder": (
        lambda f: (shutil.rmtree(f), f.touch()),
        "expected a folder with train_features, found a file",
    ),
    "corrupted gzip": (
        corrupted_gzip,
        "train_features.csv.gz: cannot be read as CSV in UTF-8: Error -3 while decompressing",
    ),
    "encrypted zip": (
        encrypted_zip,
        "train_drug.csv.zip: cannot be read as CSV in UTF-8: File 'train_drug.csv' is encrypted",
    ),
    "endless header": (
        text("train_features", lambda b: b"x" * 200_000),
        "train_features.csv: cannot be read as CSV in UTF-8: field larger than field limit",
    ),
    "renamed drugs": (
        rewrite("train_drug", lambda t: t.rename(columns={"drug_id": "drug"})),
        "train_drug.csv: expected a column drug_id, found none; found drug instead?",
    ),
    "two files in a zip": (two_in_a_zip, "csv.zip: expected one file within, found 2"),
    "no column of text": (nested_parquet, "expected one of D1, D2, found ['D1']"),
    "ragged row": (
        text("train_features", lambda b: b + b"x,trt_cp,24,D1,1,2,3,4,5,6,7\n"),
        "Expected 9 columns, got 11: x,trt_cp",
    ),
    "not text": (
        text("train_features", lambda b: b.replace(b"0002", b"\xff\xfe")),
        "train_features.csv: cannot be read as CSV in UTF-8: ",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_clear_line(tmp_path, case):
    folder = tmp_path / "data"
    write(folder, frames())
    break_it, message = BAD[case]
    break_it(folder)
    with pytest.raises(UserError) as caught:
        tables.load(folder)
    assert message in str(caught.value)
    assert str(folder) in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "break_it",
    [
        edit("train_features", "g-0", "long" * 500),
        text("train_features", lambda b: b + b"x," + b"long" * 500 + b"\n"),
    ],
    ids=["cell", "row"],
)
def test_what_is_quoted_is_cut(tmp_path, break_it):
    write(tmp_path, frames())
    break_it(tmp_path)
    with pytest.raises(UserError) as caught:
        tables.load(tmp_path)
    message = str(caught.value).removeprefix(str(tmp_path))
    assert "longlong" in message and len(message) < 250


def test_targets_without_a_positive_are_allowed_and_logged(tmp_path, caplog):
    content = frames()
    content["train_targets_scored"]["one"] = 0
    write(tmp_path, content)
    with caplog.at_level("INFO", logger="absl"):
        assert tables.load(tmp_path).scored.values[:, 0].sum() == 0
    assert "1 targets have no positive row, such as one" in caplog.text


def test_missing_inference_file_is_told(tmp_path):
    with pytest.raises(UserError, match="new.csv: expected a file, found none"):
        next(tables.stream(tmp_path / "new.csv"))
    (tmp_path / "new.dat").touch()
    with pytest.raises(UserError, match="new.dat: expected a name that ends in .csv, .tsv, "):
        next(tables.stream(tmp_path / "new.dat"))


def test_targets_of_control_rows_are_told(tmp_path, caplog):
    content = frames()
    content["train_targets_nonscored"]["three"] = 1
    write(tmp_path, content)
    with caplog.at_level("WARNING", logger="absl"):
        tables.load(tmp_path)
    assert "train_targets_nonscored.csv: 2 control rows have targets" in caplog.text


def test_test_rows_of_the_training_set_are_told(tmp_path, caplog):
    content = frames()
    content["test_features"].loc[2, "sig_id"] = "0001"
    content.pop("sample_submission")
    write(tmp_path, content)
    with caplog.at_level("WARNING", logger="absl"):
        assert tables.load(tmp_path).test.ids[2] == "0001"
    assert "test_features.csv: 1 sig_ids are in train_features too" in caplog.text


def test_unsorted_labels_follow_the_features(tmp_path):
    """Values, not only shapes, belong to their sig_id."""
    content = frames(rows=3, test_rows=1)
    content["train_features"]["sig_id"] = ["b", "c", "a"]
    content["train_targets_scored"] = pd.DataFrame(
        {"sig_id": ["a", "b", "c"], "one": [0, 1, 0], "two": [0, 1, 1]}
    )
    content["train_drug"] = pd.DataFrame({"sig_id": ["c", "a", "b"], "drug_id": ["z", "x", "y"]})
    content = {stem: content[stem] for stem in (FILES[0], FILES[1], FILES[3])}
    write(tmp_path, content)
    data = tables.load(tmp_path)
    assert data.ids.tolist() == ["b", "c", "a"]
    assert data.scored.values.tolist() == [[1, 1], [0, 1], [0, 0]]
    assert data.drug_id.tolist() == ["y", "z", "x"]
