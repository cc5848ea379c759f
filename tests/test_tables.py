"""Reading a data folder: what is accepted, and one clear line for what is not."""

import gzip
import itertools
import shutil

import numpy as np
import pandas as pd
import pytest

from moa_jax.data import tables
from moa_jax.errors import UserError

FILES = (
    "train_features", "train_targets_scored", "train_targets_nonscored", "train_drug",
    "test_features", "sample_submission",
)  # fmt: skip


def frames(rows=12, test_rows=5):
    generator = np.random.default_rng(0)

    def features(prefix, count):
        table = pd.DataFrame(
            {
                "sig_id": [f"{prefix}{i:03d}" for i in range(count)],
                "cp_type": ["ctl_vehicle" if i % 5 == 4 else "trt_cp" for i in range(count)],
                "cp_time": [(24, 48, 72)[i % 3] for i in range(count)],
                "cp_dose": [("D1", "D2")[i % 2] for i in range(count)],
            }
        )
        for name in ("g-0", "g-1", "g-2", "c-0", "c-1"):
            table[name] = generator.normal(size=count).round(4)
        return table

    train, test = features("0", rows), features("9", test_rows)
    ids = train["sig_id"]
    treated = (train["cp_type"] == "trt_cp").to_numpy()
    labels = lambda names: pd.DataFrame(
        {"sig_id": ids, **{n: ((generator.random(rows) < 0.4) & treated) * 1 for n in names}}
    )
    scored = labels(["one", "two, with comma"])
    return {
        "train_features": train,
        "train_targets_scored": scored,
        "train_targets_nonscored": labels(["three"]),
        "train_drug": pd.DataFrame({"sig_id": ids, "drug_id": [f"d{i // 2}" for i in range(rows)]}),
        "test_features": test,
        "sample_submission": pd.DataFrame(
            {"sig_id": test["sig_id"][::-1], "two, with comma": 0.5, "one": 0.5}
        ),
    }


def write(folder, content, suffix=".csv"):
    folder.mkdir(exist_ok=True)
    for stem, frame in content.items():
        path = folder / f"{stem}{suffix}"
        if suffix == ".parquet":
            frame.to_parquet(path, index=False)
        else:
            frame.to_csv(path, index=False)


def same(one, two):
    for field in ("ids", "features", "cp_time", "cp_dose", "is_control", "drug_id"):
        np.testing.assert_array_equal(getattr(one, field), getattr(two, field))
    assert (one.genes, one.cells) == (two.genes, two.cells)
    for field in ("scored", "nonscored"):
        a, b = getattr(one, field), getattr(two, field)
        assert a.names == b.names
        np.testing.assert_array_equal(a.values, b.values)


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


@pytest.mark.parametrize("suffix", [".csv.gz", ".csv.zip", ".parquet"])
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
    assert tables.load(tmp_path / "a", tables.Levels(cp_time=(6,))).cp_time.tolist() == [6] * 12


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


def test_streaming_gives_the_same_rows_in_parts(tmp_path):
    write(tmp_path, {"new": frames()["train_features"]}, ".csv.gz")
    parts = list(tables.stream(tmp_path / "new.csv.gz", rows=5))
    assert [len(part) for part in parts] == [5, 5, 2]
    whole = next(tables.stream(tmp_path / "new.csv.gz"))
    np.testing.assert_array_equal(np.concatenate([p.features for p in parts]), whole.features)


def test_streaming_does_not_read_ahead(tmp_path):
    """The first part arrives although the end of the file is broken."""
    frame = frames(rows=3000)["train_features"]
    frame.to_csv(tmp_path / "new.csv", index=False)
    with open(tmp_path / "new.csv", "a") as opened:
        opened.write("x,trt_cp,24,D1,1,2,oops,4,5\n")
    parts = tables.stream(tmp_path / "new.csv", rows=1000)
    assert [len(part) for part in itertools.islice(parts, 3)] == [1000] * 3
    with pytest.raises(UserError, match="column g-2, sig_id x: expected a number, found 'oops'"):
        next(parts)


def test_repeated_ids_are_found_across_parts(tmp_path):
    frame = pd.concat([frames()["train_features"]] * 2)
    frame.to_csv(tmp_path / "new.csv", index=False)
    with pytest.raises(UserError, match="sig_id 0000 stands more than once"):
        list(tables.stream(tmp_path / "new.csv", rows=7))


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
    data = gzip.compress(np.random.default_rng(0).bytes(100) + path.read_bytes())
    data = gzip.compress(path.read_bytes())
    (folder / "train_features.csv.gz").write_bytes(data[: len(data) // 2])
    path.unlink()


def broken_zip(folder):
    (folder / "train_features.csv").rename(folder / "train_features.csv.zip")


def broken_parquet(folder):
    (folder / "train_features.csv").rename(folder / "train_features.parquet")


BAD = {
    "missing folder": (shutil.rmtree, "expected a folder with train_features"),
    "missing features": (
        lambda f: (f / "train_features.csv").unlink(),
        "expected a file train_features.csv",
    ),
    "missing targets": (
        lambda f: (f / "train_targets_scored.csv").unlink(),
        "expected a file train_targets_scored.csv",
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
    "missing id": (edit("train_features", "sig_id", None), "expected an id in row 3"),
    "other ids in targets": (
        edit("train_targets_scored", "sig_id", "x"),
        "train_targets_scored.csv: expected sig_id 0002, found none",
    ),
    "fewer drugs": (
        rewrite("train_drug", lambda t: t.iloc[1:]),
        "train_drug.csv: expected sig_id 0000, found none",
    ),
    "more targets than features": (
        rewrite("train_targets_nonscored", lambda t: pd.concat([t, t.tail(1).assign(sig_id="x")])),
        "train_targets_nonscored.csv: sig_id x has no features",
    ),
    "test rows of the training set": (
        edit("test_features", "sig_id", "0001"),
        "test_features.csv: sig_id 0001 is in train_features too",
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
        "column g-2, sig_id 0002: expected a number, found 'high'",
    ),
    "empty cell": (
        edit("train_features", "c-0", None),
        "column c-0, sig_id 0002: expected a finite number, found nan",
    ),
    "infinity": (
        edit("train_features", "c-1", "inf"),
        "column c-1, sig_id 0002: expected a finite number, found inf",
    ),
    "unknown type": (
        edit("train_features", "cp_type", "trt"),
        "column cp_type, sig_id 0002: expected one of trt_cp, ctl_vehicle, found trt; "
        "set config.data.treated_type or config.data.control_type",
    ),
    "unknown dose": (
        edit("train_features", "cp_dose", "D3"),
        "expected one of D1, D2, found D3; set config.data.cp_doses",
    ),
    "unknown time": (
        edit("test_features", "cp_time", 96),
        "column cp_time, sig_id 9002: expected one of 24, 48, 72, found 96; "
        "set config.data.cp_times",
    ),
    "time as a word": (edit("train_features", "cp_time", "day"), "found day"),
    "target not binary": (
        edit("train_targets_scored", "one", 2),
        "column one, sig_id 0002: expected 0 or 1, found 2",
    ),
    "target missing": (edit("train_targets_scored", "one", None), "found nan"),
    "no targets": (
        rewrite("train_targets_scored", lambda t: t[["sig_id"]]),
        "expected target columns beside sig_id, found none",
    ),
    "drug missing": (
        edit("train_drug", "drug_id", None),
        "train_drug.csv: sig_id 0002: expected a value, found none",
    ),
    "other submission targets": (
        rewrite("sample_submission", lambda t: t.rename(columns={"one": "onee"})),
        "sample_submission.csv: expected a column one, found none; found onee instead?",
    ),
    "other submission ids": (
        edit("sample_submission", "sig_id", "x"),
        "sample_submission.csv: sig_id x is not in test_features",
    ),
    "fewer submission ids": (
        rewrite("sample_submission", lambda t: t.iloc[1:]),
        "expected sig_id 9004 of test_features, found none",
    ),
    "truncated gzip": (truncated_gzip, "train_features.csv.gz: damaged or truncated"),
    "broken zip": (broken_zip, "train_features.csv.zip: damaged or truncated"),
    "broken parquet": (broken_parquet, "train_features.parquet: damaged or truncated"),
    "semicolons": (
        text("train_features", lambda b: b.replace(b",", b";")),
        "expected columns delimited by commas, found 'sig_id;cp_type",
    ),
    "tabs": (
        text("train_features", lambda b: b.replace(b",", b"\t")),
        "expected columns delimited by commas",
    ),
    "ragged row": (
        text("train_features", lambda b: b + b"x,trt_cp,24,D1,1,2,3,4,5,6,7\n"),
        "train_features.csv: damaged or truncated",
    ),
    "not text": (
        text("train_features", lambda b: b.replace(b"0002", b"\xff\xfe")),
        "expected UTF-8 text, found byte 0xff",
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


def test_targets_without_a_positive_are_allowed_and_logged(tmp_path, caplog):
    content = frames()
    content["train_targets_scored"]["one"] = 0
    write(tmp_path, content)
    with caplog.at_level("INFO", logger="absl"):
        assert tables.load(tmp_path).scored.values[:, 0].sum() == 0
    assert "1 targets have no positive row, such as one" in caplog.text


def test_missing_inference_file_is_told(tmp_path):
    with pytest.raises(UserError, match="new.csv: not found"):
        next(tables.stream(tmp_path / "new.csv"))
    (tmp_path / "new.txt").touch()
    with pytest.raises(UserError, match="new.txt: expected one of .csv, .csv.gz"):
        next(tables.stream(tmp_path / "new.txt"))
