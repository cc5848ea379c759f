"""One table, one answer: whatever its format, the types of its columns and who wrote it."""

import bz2
import datetime
import decimal
import gzip
import io
import lzma
import zipfile

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from data_folders import frames, same, write

from moa_jax.config import DataConfig
from moa_jax.data import columns, formats, headers, tables
from moa_jax.data.dataset import Levels
from moa_jax.errors import UserError

DOSES = ("0.04", "10.0")
NUMERIC = Levels.of(DataConfig(cp_doses=DOSES))


def numeric_frames():
    content = frames()
    for stem in ("train_features", "test_features"):
        dose = content[stem]["cp_dose"]
        content[stem]["cp_dose"] = dose.map({"D1": 0.04, "D2": 10.0})
    return content


def cast(stem, column, change):
    def apply(content):
        content[stem][column] = change(content[stem][column])

    return apply


def decimals(values):
    return values.map(lambda value: decimal.Decimal(str(value)))


FEATURES, SCORED = "train_features", "train_targets_scored"
SAME_TABLES = {
    "float32 doses": cast(FEATURES, "cp_dose", lambda c: c.astype("float32")),
    "doses as text": cast(FEATURES, "cp_dose", lambda c: c.map({0.04: "4e-2", 10.0: "1e1"})),
    "doses with spaces": cast(FEATURES, "cp_dose", lambda c: c.map({0.04: " 0.04", 10.0: "10 "})),
    "decimal doses": cast(FEATURES, "cp_dose", decimals),
    "doses as categories": cast(FEATURES, "cp_dose", lambda c: c.astype("category")),
    "times as floats": cast(FEATURES, "cp_time", lambda c: c.astype(float)),
    "times as small integers": cast(FEATURES, "cp_time", lambda c: c.astype("int8")),
    "times as nullable integers": cast(FEATURES, "cp_time", lambda c: c.astype("Int64")),
    "times as categories": cast(FEATURES, "cp_time", lambda c: c.astype("category")),
    "times as texts": cast(FEATURES, "cp_time", lambda c: c.map("{:.1f}".format)),
    "decimal times": cast(FEATURES, "cp_time", decimals),
    "types as categories": cast(FEATURES, "cp_type", lambda c: c.astype("category")),
    "true targets": cast(SCORED, "one", lambda c: c.astype(bool)),
    "nullable truth": cast(SCORED, "one", lambda c: c.astype("boolean")),
    "TRUE in capitals": cast(SCORED, "one", lambda c: c.map({0: "FALSE", 1: "TRUE"})),
    "true in small letters": cast(SCORED, "one", lambda c: c.map({0: "false", 1: "true"})),
    "targets as floats": cast(SCORED, "one", lambda c: c.astype(float)),
    "targets as categories": cast(SCORED, "one", lambda c: c.astype("category")),
    "genes as texts": cast(FEATURES, "g-1", lambda c: c.astype(str)),
    "genes as decimals": cast(FEATURES, "g-1", decimals),
}


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
@pytest.mark.parametrize("case", SAME_TABLES)
def test_types_of_columns_do_not_matter(tmp_path, suffix, case):
    content = numeric_frames()
    write(tmp_path / "a", content)
    SAME_TABLES[case](content)
    write(tmp_path / "b", content, suffix)
    one, two = (tables.load(tmp_path / name, NUMERIC) for name in "ab")
    same(one, two)
    assert one.fingerprint() == two.fingerprint()


def test_texts_may_be_bytes_in_a_parquet(tmp_path):
    table = numeric_frames()["train_features"].astype({"g-1": str})
    write(tmp_path, {"text": table}, ".parquet")
    for name in ("sig_id", "cp_type", "g-1"):
        table[name] = table[name].str.encode("utf-8")
    write(tmp_path, {"bytes": table}, ".parquet")
    text, as_bytes = (
        tables.read_features(tmp_path / f"{name}.parquet", NUMERIC) for name in ("text", "bytes")
    )
    assert text.fingerprint() == as_bytes.fingerprint()


@pytest.mark.parametrize("names", [("0.04", "10"), ("4e-2", "10.00")])
def test_doses_keep_their_configured_names(tmp_path, names):
    for suffix in (".csv", ".parquet"):
        write(tmp_path, {"new": numeric_frames()["train_features"]}, suffix)
        found = tables.read_features(
            tmp_path / f"new{suffix}", Levels.of(DataConfig(cp_doses=names))
        )
        assert found.cp_dose[:3].tolist() == [names[0], names[1], names[0]]


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_another_number_is_another_level(tmp_path, suffix):
    content = numeric_frames()
    content["train_features"].loc[3, "cp_dose"] = 10.5
    write(tmp_path, content, suffix)
    with pytest.raises(UserError, match="sig_id 0003: expected one of 0.04, 10.0, found '10.5'; s"):
        tables.load(tmp_path, NUMERIC)


def test_fractions_of_an_hour(tmp_path):
    content = frames()
    for stem in ("train_features", "test_features"):
        content[stem]["cp_time"] = content[stem]["cp_time"].map({24: 0.5, 48: 24, 72: 48.0})
    levels = Levels.of(DataConfig(cp_times=(0.5, 24.0, 48)))
    for suffix in (".csv", ".parquet"):
        write(tmp_path / suffix, content, suffix)
        found = tables.load(tmp_path / suffix, levels)
        assert found.cp_time.dtype == np.float64
        assert found.cp_time[:3].tolist() == [0.5, 24, 48]
    content["train_features"].loc[0, "cp_time"] = 6
    write(tmp_path / ".csv", content)
    with pytest.raises(UserError, match=r"expected one of 0\.5, 24, 48, found '6\.0'"):
        tables.load(tmp_path / ".csv", levels)


def test_whole_hours_are_integers():
    assert str(DataConfig(cp_times=(24.0, 48, 0.5)).cp_times) == "(24, 48, 0.5)"
    assert Levels.of(DataConfig(cp_times=(24.0, 48.0))).time_dtype is np.int64


@pytest.mark.parametrize(
    ("ids", "texts"),
    [
        (np.arange(4), ["0", "1", "2", "3"]),
        (np.arange(4) + 2**60, [str(2**60 + i) for i in range(4)]),
        (np.arange(4.0), ["0", "1", "2", "3"]),
        (pd.array([7, 8, 9, 10], "UInt8"), ["7", "8", "9", "10"]),
        (pd.Categorical(["0012", "12", "b", "a"]), ["0012", "12", "b", "a"]),
        ([" a", "b ", "c", "d"], ["a", "b", "c", "d"]),
        ([decimal.Decimal(f"{i}.00") for i in range(-1, 3)], ["-1", "0", "1", "2"]),
    ],
)
@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_ids_are_the_texts_of_a_csv(tmp_path, suffix, ids, texts):
    content = frames(rows=4)["train_features"].assign(sig_id=ids)
    write(tmp_path, {"new": content}, suffix)
    assert tables.read_features(tmp_path / f"new{suffix}").ids.tolist() == texts


def test_integers_of_a_parquet_join_the_texts_of_a_csv(tmp_path):
    content = {stem: frames(rows=4)[stem] for stem in ("train_features", "train_targets_scored")}
    for table in content.values():
        table["sig_id"] = np.arange(4)
    write(tmp_path, {"train_features": content["train_features"]}, ".parquet")
    write(tmp_path, {"train_targets_scored": content["train_targets_scored"]})
    assert tables.load(tmp_path).ids.tolist() == ["0", "1", "2", "3"]


def test_whole_floats_of_a_parquet_join_the_integers_of_a_csv(tmp_path):
    content = {stem: frames(rows=4)[stem] for stem in ("train_features", "train_targets_scored")}
    big = np.arange(4) + 2**53 - 5
    content["train_features"]["sig_id"] = big.astype(float)
    content["train_targets_scored"]["sig_id"] = big
    write(tmp_path, {"train_features": content["train_features"]}, ".parquet")
    write(tmp_path, {"train_targets_scored": content["train_targets_scored"]})
    assert tables.load(tmp_path).ids.tolist() == [str(number) for number in big]


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
@pytest.mark.parametrize("mark", ["NA", "nan", "n.a.", "--", "-666", "-666.0", ""])
def test_rows_without_a_name_are_not_one_compound(tmp_path, suffix, mark):
    content = frames()
    content["groups"] = content["train_drug"].rename(columns={"drug_id": "group"})
    changed = {"train_drug": "drug_id", "groups": "group", "train_features": "sig_id"}
    for stem, column in changed.items():
        content[stem].loc[[2, 3], column] = mark
    found = f"expected a text, found {repr(mark) if mark else 'nothing'}; a missing value: fill"
    write(tmp_path, content, suffix)
    with pytest.raises(UserError, match="sig_id, row 3: expected an id, found .*; a missing value"):
        tables.load(tmp_path)
    write(tmp_path, {"train_features": frames()["train_features"]}, suffix)
    with pytest.raises(UserError, match=f"train_drug.*column drug_id, sig_id 0002: {found}"):
        tables.load(tmp_path)
    train = tables.read_features(tmp_path / f"train_features{suffix}")
    with pytest.raises(UserError, match=f"groups.*column group, sig_id 0002: {found}"):
        tables.read_groups(tmp_path / f"groups{suffix}", train)


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_a_compound_is_one_however_it_is_written(tmp_path, caplog, suffix):
    """As a whole number of a float, in other codes of one character, with what nobody sees."""
    content = frames()
    drugs = ["1", "1.0", "Caf\u00e9", "Cafe\u0301", "\ufeffb", "b\u200b", "C", "c ", '="b"'] * 2
    content["train_drug"]["drug_id"] = drugs[:12]
    write(tmp_path, content, suffix)
    found = tables.load(tmp_path).drug_id[:9]
    assert found.tolist() == ["1", "1", *["Caf\u00e9"] * 2, "b", "b", "C", "c", "b"]
    assert "names differ by case or spaces alone, and count as several: C and c" in caplog.text


@pytest.mark.parametrize("other", ["S 0", "s0", "\uff530"])
def test_ids_that_differ_by_case_or_spaces_have_a_remedy(tmp_path, other):
    content = frames()
    for table in content.values():
        table["sig_id"] = table["sig_id"].replace("0000", "S0")
    content["train_drug"].loc[0, "sig_id"] = other
    write(tmp_path, content)
    with pytest.raises(UserError, match=f"found {other} instead. Case and spaces count"):
        tables.load(tmp_path)


def test_a_line_break_in_the_name_of_a_compound_is_a_space(tmp_path):
    """Files of answers would have lines that no reader puts together again."""
    content = frames()
    content["train_drug"]["drug_id"] = ["Acid A\r(salt)", "Acid A\n(salt)", "Acid A (salt)"] * 4
    write(tmp_path, content, ".parquet")
    assert {*tables.load(tmp_path).drug_id} == {"Acid A (salt)"}


def test_a_list_of_compounds_is_no_missing_value(tmp_path):
    content = frames()
    content["train_drug"]["drug_id"] = [["a", "b"]] * 12
    write(tmp_path, content, ".parquet")
    with pytest.raises(UserError, match=r"found \['a', 'b'\]; write one value in each cell$"):
        tables.load(tmp_path)


def test_a_label_that_was_not_measured_has_a_remedy(tmp_path):
    content = frames()
    content["train_targets_scored"].loc[2, "one"] = -1
    write(tmp_path, content)
    with pytest.raises(UserError, match="found '-1'; a label that was not measured is an empty c"):
        tables.load(tmp_path)


def test_integers_beyond_a_double_are_rounded_in_both(tmp_path):
    table = frames(rows=4)["train_features"]
    table["g-0"] = np.arange(4) + 2**60 + 1
    found = []
    for suffix in (".csv", ".parquet"):
        write(tmp_path, {"new": table}, suffix)
        found.append(tables.read_features(tmp_path / f"new{suffix}").features)
    np.testing.assert_array_equal(*found)


@pytest.mark.parametrize(
    "mark", ["NA", "nan", "NaN", "null", "None", "N/A", "", "inf", "-inf", "."]
)
def test_missing_values_are_one_error(tmp_path, mark):
    table = frames()["train_features"]
    table["g-1"] = table["g-1"].astype(str)
    table.loc[4, "g-1"] = mark
    for suffix in (".csv", ".parquet"):
        write(tmp_path, {"new": table}, suffix)
        with pytest.raises(UserError) as caught:
            tables.read_features(tmp_path / f"new{suffix}")
        found = repr(mark) if mark else "nothing"
        assert str(caught.value).endswith(
            f"new{suffix}: column g-1, sig_id 0004: expected a finite number, found {found}; "
            "a missing value: fill it in, or leave the row or the column out"
        )


@pytest.mark.parametrize(("value", "found"), [(np.nan, "nothing"), (np.inf, "'inf'")])
def test_missing_numbers_are_told_as_in_a_csv(tmp_path, value, found):
    table = frames()["train_features"]
    table.loc[4, "g-1"] = value
    written = pa.Table.from_pandas(table, preserve_index=False)
    as_numbers = pa.table({n: pa.array(table[n].to_numpy()) for n in table})
    for suffix, content in [(".csv", table), (".parquet", written), (".parquet", as_numbers)]:
        if suffix == ".csv":
            write(tmp_path, {"new": content})
        else:
            pa.parquet.write_table(content, tmp_path / "new.parquet")
        with pytest.raises(UserError, match=f"g-1, sig_id 0004: .* found {found}; a missing value"):
            tables.read_features(tmp_path / f"new{suffix}")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("My screen,,\na,b,c\n1,2,3\n", "found only My screen; is it a title, take it out"),
        ("id,a,,\n1,2,,\n", r"column 3 \(no name\) is not expected; name it"),
        (
            "Cells,Cells,Cells\nA,B,C\n1,2,3\n",
            "Cells stands more than once; has the header several",
        ),
        ("#1.2\n1\t2\nName\tDescription\ta\tb\n", "found GCT; name it .gct"),
        ("a,a,b\n1,2,3\n", "column a stands more than once$"),
        ("a,b,c\n1,1,2,3\n", "needs quotes around it, or R's names of the rows a column in the"),
        ("a,b,c\n1,1,2,3,4\n", "a text with a comma needs quotes around it$"),
    ],
)
def test_headers_of_other_kinds(tmp_path, text, message):
    (tmp_path / "a.csv").write_text(text)
    with pytest.raises(UserError, match=message):
        list(formats.tables(tmp_path / "a.csv", key=""))


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_truth_is_no_gene(tmp_path, suffix):
    write(tmp_path, {"new": frames()["train_features"].assign(**{"g-0": True})}, suffix)
    with pytest.raises(UserError, match="column g-0, sig_id 0000: .* finite number, found 'True'"):
        tables.read_features(tmp_path / f"new{suffix}")


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
@pytest.mark.parametrize(
    ("cell", "found"), [("yes", "'yes'"), ("t", "'t'"), ("2", "'2'"), ("", "nothing")]
)
def test_other_words_are_no_target(tmp_path, suffix, cell, found):
    content = frames()
    content["train_targets_scored"]["one"] = ["True", "0", "1", cell, *["False"] * 8]
    write(tmp_path, content, suffix)
    expected = "0 or 1" if cell else "a finite number"
    with pytest.raises(UserError, match=f"one, sig_id 0003: expected {expected}, found {found}"):
        tables.load(tmp_path)


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_what_is_no_cell_of_a_table_is_shown(tmp_path, suffix):
    day = datetime.date(2020, 9, 3)
    write(tmp_path, {"new": frames()["train_features"].assign(cp_time=day)}, suffix)
    with pytest.raises(UserError, match="expected one of 24, 48, 72, found '2020-09-03'"):
        tables.read_features(tmp_path / f"new{suffix}")


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_the_mark_of_the_connectivity_map_is_told(tmp_path, caplog, suffix):
    table = frames()["train_features"]
    table.loc[2, "g-1"] = table.loc[5, "c-0"] = -666
    write(tmp_path, {"new": table}, suffix)
    with caplog.at_level("WARNING", logger="absl"):
        found = list(tables.stream(tmp_path / f"new{suffix}", rows=4))
    assert found[0].features[2, 1] == -666
    (line,) = (record.getMessage() for record in caplog.records)
    assert f"new{suffix}: column g-1, sig_id 0002: found -666, the Connectivity Map's" in line
    assert "in 1 cells of 4 rows; it is read as a number" in line


REMEDIES = {
    "1,234.5": "thousands are written without anything between them",
    "1,234,567": "thousands are written without anything between them",
    "1 234.5": "thousands are written without anything between them",
    "1,234": "decimals are written with a point, thousands without a comma",
    "0,234": "decimals are written with a point",
    "1.234,5": "decimals are written with a point, thousands without one",
    "1,5e3": "decimals are written with a point",
    "\u22121.5": "its minus sign is another character: write it as -",
    "#DIV/0!": "Excel's mark of an error: mend its formula, or fill it in",
    "--": "a missing value: fill it in, or leave the row or the column out",
    "-": "a missing value: fill it in, or leave the row or the column out",
    "'1.5": "take the quotes off",
    "1.5 mM": "write it without its unit",
    "1e400": "it is greater than a double can be",
    "0x10": "",
}


@pytest.mark.parametrize("cell", REMEDIES)
def test_what_is_no_number_has_a_remedy(tmp_path, cell):
    table = frames()["train_features"].astype({"g-1": object})
    table.loc[4, "g-1"] = cell
    write(tmp_path, {"new": table})
    with pytest.raises(UserError) as caught:
        tables.read_features(tmp_path / "new.csv")
    _, _, found = str(caught.value).partition(f"found {cell!r}")
    assert found == f"; {REMEDIES[cell]}" * bool(REMEDIES[cell])


@pytest.mark.parametrize(
    ("column", "cell", "message"),
    [
        ("cp_time", "24h", "found '24h'; write it without its unit"),
        ("cp_time", "24 h", "found '24 h'; write it without its unit"),
        ("cp_time", "1 days 00:00:00", "00'; write it without its unit, in that of the others"),
        ("cp_time", "NA", "found 'NA'; a missing value: fill it in, or leave the row out"),
        ("cp_time", datetime.timedelta(days=1), "; a date or a span of time: write it as a number"),
        ("cp_time", datetime.date(2020, 9, 3), "; a date or a span of time: write it as a number"),
        ("g-0", datetime.timedelta(days=1), "; a date or a span of time: write it as a number"),
        ("g-0", datetime.date(2020, 9, 3), "; a date or a span of time: write it as a number"),
        ("g-0", [1.0, 2.0], r"found \[1.0, 2.0\]; write one value in each cell"),
        ("g-0", {"a": 1.0}, "found {'a': 1.0}; write one value in each cell"),
        ("cp_dose", "0.04 uM", "found '0.04 uM'; write it without its unit"),
        ("cp_dose", "0.040000001", "found '0.040000001'; write it as 0.04"),
        ("cp_dose", "10.5", "found '10.5'; set config.data.cp_doses to change them"),
    ],
)
def test_units_and_times_have_a_remedy(tmp_path, column, cell, message):
    table = numeric_frames()["train_features"]
    table[column] = pd.Series([cell] * len(table))
    write(tmp_path, {"new": table}, ".csv" if isinstance(cell, str) else ".parquet")
    with pytest.raises(UserError, match=f"column {column}, sig_id 0000: .*{message}$"):
        next(tables.stream(next(tmp_path.iterdir()), levels=NUMERIC))


def test_a_level_is_one_however_its_characters_are_coded(tmp_path):
    table = frames()["train_features"]
    levels = Levels.of(DataConfig(cp_doses=("10 \u00b5M", "Caf\u00e9")))
    table["cp_dose"] = ["10 \u03bcM", "Cafe\u0301"] * 6
    write(tmp_path, {"new": table})
    found = tables.read_features(tmp_path / "new.csv", levels).cp_dose
    assert found[:2].tolist() == ["10 \u00b5M", "Caf\u00e9"]
    write(tmp_path, {"new": table.assign(cp_dose="10um")})
    with pytest.raises(UserError, match="found '10um'; write it as 10 \u00b5M"):
        tables.read_features(tmp_path / "new.csv", levels)


def zipped(data, *names):
    whole = io.BytesIO()
    with zipfile.ZipFile(whole, "w") as archive:
        for name in names:
            archive.writestr(name, b"" if name.endswith("/") else data)
    return whole.getvalue()


def zstd(data):
    whole = pa.BufferOutputStream()
    with pa.CompressedOutputStream(whole, "zstd") as packed:
        packed.write(data)
    return whole.getvalue().to_pybytes()


def rewritten(change):
    return lambda data: change(data.decode()).encode()


READ = {
    "gzip named .csv": gzip.compress,
    "zip named .csv": lambda data: zipped(data, "features.csv"),
    "bzip2 named .csv": bz2.compress,
    "xz named .csv": lzma.compress,
    "zstd named .csv": zstd,
    "zip of a Mac": lambda data: zipped(data, "data/", "data/a.csv", "__MACOSX/data/._a.csv"),
    "zip with litter": lambda data: zipped(
        data,
        "a/__MACOSX/._a.csv",
        ".DS_Store",
        "a/._a.csv",
        "Thumbs.db",
        "a/.git/config",
        "~$a.csv",
        "a/desktop.ini",
        "a/a.csv",
    ),
    "carriage returns": lambda data: data.replace(b"\n", b"\r"),
    "a byte order mark": lambda data: b"\xef\xbb\xbf" + data,
    "two byte order marks": lambda data: b"\xef\xbb\xbf" * 2 + data,
    "a mark and carriage returns": lambda data: b"\xef\xbb\xbf" + data.replace(b"\n", b"\r"),
    "spaces after commas": lambda data: data.replace(b",", b", "),
    "tabs after commas": lambda data: data.replace(b",", b",\t"),
    "spaces and quotes": rewritten(lambda text: text.replace(",", '", "').replace("\n", '"\n"')),
    "spaces before commas": lambda data: data.replace(b",", b" ,"),
    "quoted cells": lambda data: b"\n".join(
        b",".join(b'"%s"' % cell for cell in row.split(b",")) for row in data.splitlines()
    ),
    "blanks and blank lines before": lambda data: b"  \n\t\r\n" + data,
    "blanks at the end": lambda data: data + b"   \n \t\n",
    "blanks between": lambda data: data.replace(b"\n", b"\n  \n", 3),
    "an old end of a file": lambda data: data + b"\x1a",
    "null bytes at the end": lambda data: data + b"\0\0\0",
    "tabs": lambda data: data.replace(b",", b"\t"),
    "semicolons": lambda data: data.replace(b",", b";"),
    "rows of semicolons alone": lambda data: data.replace(b",", b";") + b";;;;;;;;\n;;\n",
    "rows of commas alone": lambda data: data + b",,,,,,,,\n , , ,,,,,,\n",
    "rows of other commas alone": lambda data: data + b",,\n,,,,,,,,,,,,\n",
    "blank lines before": lambda data: b"\n\r\n" + data,
}


@pytest.mark.parametrize("case", READ)
def test_dialects_are_read(tmp_path, case):
    text = frames()["train_features"].to_csv(index=False)
    (tmp_path / "plain.csv").write_text(text)
    if case == "spaces and quotes":
        text = '"' + text.rstrip("\n")
    data = READ[case](text.encode())
    (tmp_path / "new.csv").write_bytes(data + b'"' * (case == "spaces and quotes"))
    one, two = (tables.read_features(tmp_path / name) for name in ("plain.csv", "new.csv"))
    assert one.fingerprint() == two.fingerprint()


def test_a_space_before_a_quoted_comma_keeps_names(tmp_path):
    (tmp_path / "new.csv").write_text('sig_id, one, "two, with comma"\na, 0, 1\n')
    found = columns.read(tmp_path / "new.csv")
    assert found.names == ["one", "two, with comma"]
    assert found.numbers(found.names).tolist() == [[0, 1]]


def test_names_with_other_delimiters_are_whole(tmp_path):
    (tmp_path / "new.csv").write_text("sig_id,A;B;C,D\tE\na,0,1\n")
    with pytest.raises(UserError, match="column 'D.tE' has control characters"):
        columns.read(tmp_path / "new.csv")
    (tmp_path / "new.csv").write_text('"sig_id",A;B;C\na,0\n')
    assert columns.read(tmp_path / "new.csv").names == ["A;B;C"]


def test_what_is_not_as_it_is_named_is_told(tmp_path, caplog):
    table = frames()["train_features"]
    (tmp_path / "new.csv").write_bytes(gzip.compress(table.to_csv(index=False).encode()))
    table.to_parquet(tmp_path / "other.csv", index=False)
    with caplog.at_level("INFO", logger="absl"):
        for name in ("new.csv", "other.csv"):
            tables.read_features(tmp_path / name)
    assert "new.csv: gzip file named .csv" in caplog.text
    assert "other.csv: parquet file named .csv" in caplog.text


@pytest.mark.parametrize("encoding", ["utf-16", "utf-32"])
def test_other_encodings_are_named(tmp_path, encoding):
    text = frames()["train_features"].to_csv(index=False)
    (tmp_path / "new.csv").write_bytes(text.encode(encoding))
    found = f"new.csv: cannot be read as CSV in UTF-8: found {encoding.upper()}; save it as UTF-8"
    with pytest.raises(UserError, match=found):
        tables.read_features(tmp_path / "new.csv")
    (tmp_path / "new.csv").write_bytes(text.encode(f"{encoding}-be"))
    with pytest.raises(UserError, match="UTF-8: found null bytes, as in UTF-16 without its mark"):
        tables.read_features(tmp_path / "new.csv")


UNREADABLE = {
    "latin-1 in a cell": (
        "new.csv",
        lambda data: data.replace(b"trt_cp", "µ".encode("latin-1"), 1),
        "column cp_type has other bytes, as those of Latin-1; save it as UTF-8",
    ),
    "latin-1 in the header": (
        "new.csv",
        lambda data: data.replace(b"cp_dose", "dose_µM".encode("latin-1"), 1),
        "found the byte 0xb5 in the header, as in Latin-1; save it as UTF-8",
    ),
    "an index": (
        "new.csv",
        lambda data: b"\n".join(b"%d,%s" % (i, r) if i else b"," + r for i, r in
                                enumerate(data.splitlines())),
        "column 1 (no name; pandas writes its index so) is not expected; write it with index=False",
    ),
    "a trailing comma": (
        "new.csv",
        lambda data: data.replace(b"\n", b",\n"),
        "column 10 (no name; the header ends with a delimiter) is not expected; take",
    ),
    "a column without a name": (
        "new.csv",
        lambda data: data.replace(b"cp_time", b" ", 1),
        "column 3 (no name) is not expected; name it",
    ),
    "decimal commas": (
        "new.csv",
        lambda data: data.splitlines()[0] + b'\nx,trt_cp,24,D1,1,2,"-3,5",4,5\n',
        "column g-2, sig_id x: expected a finite number, found '-3,5'; decimals are written with",
    ),
    "semicolons and decimal commas": (
        "new.csv",
        lambda data: data.replace(b",", b";").replace(b".", b","),
        "column g-0, sig_id 0000: expected a finite number, found '0,1257'; decimals are written w",
    ),
    "a line for Excel": (
        "new.csv", lambda data: b"sep=,\n" + data, "found Excel's line sep=; take it out",
    ),
    "text named .csv.gz": (
        "new.csv.gz", bytes, "new.csv.gz: cannot be read as CSV in UTF-8: File is not a gzip file",
    ),
    "text named .csv.zip": (
        "new.csv.zip", bytes, "new.csv.zip: cannot be read as CSV in UTF-8: File is not a zip file",
    ),
    "gzip named .parquet": (
        "new.parquet", gzip.compress, "cannot be read as parquet: gzip file named .parquet",
    ),
    "7z named .csv": (
        "new.csv", lambda data: b"7z\xbc\xaf\x27\x1c", "new.csv: 7z file named .csv; convert it",
    ),
    "a bzip2 that is cut": (
        "new.csv", lambda data: bz2.compress(data)[:-20], "; is the file complete? Copy it",
    ),
    "a zstd that is cut": (
        "new.csv", lambda data: zstd(data)[:-20], "new.csv: cannot be read as CSV in UTF-8: ",
    ),
    "commas at the ends of rows": (
        "new.csv",
        lambda data: data.replace(b"\n", b",\n").replace(b",\n", b"\n", 1),
        "Expected 9 columns, got 10: 0000,trt_cp,24,D1,",
    ),
    "a remedy for commas at the ends of rows": (
        "new.csv",
        lambda data: data + b"x,trt_cp,24,D1,1,2,3,4,5,\n",
        "got 10: x,trt_cp,24,D1,1,2,3,4,5,; take the commas off the ends of the rows",
    ),
    "a quote that is not closed": (
        "new.csv", lambda data: data.replace(b"0002", b'"0002'), "; a quote is not closed",
    ),
    "two files that were joined": (
        "new.csv", lambda data: data * 2, "new.csv: row 13 is the header once more",
    ),
    "a gzip that is cut": (
        "new.csv.gz", lambda data: gzip.compress(data)[:-20], "; is the file complete? Copy it",
    ),
    "a line break in a name": (
        "new.csv", lambda data: data.replace(b"g-0", b'"g\n-0"', 1), "or a name has a line break",
    ),
    "a row that is cut": ("new.csv", lambda data: data + b"x,trt", "; the row is cut short; is"),
    "tabs at the ends of rows": (
        "new.tsv",
        lambda data: data.replace(b",", b"\t") + b"x" + b"\t1" * 8 + b"\t\n",
        "; take the tabs off the ends of the rows",
    ),
    "a row that is longer": (
        "new.csv", lambda data: data + b"x, y,trt_cp,24,D1,1,2,3,4,5\n", "; a text with a comma",
    ),
    "text named .parquet": (
        "new.parquet", bytes, "cannot be read as parquet: found text; is it CSV, name it .csv",
    ),
    "a parquet that is cut": (
        "new.parquet", lambda data: b"PAR1\x15\x04" * 99, "its end is not that of parquet; is the",
    ),
    "nothing named .parquet": (
        "new.parquet", lambda data: b"", "new.parquet: expected a table, found an empty file",
    ),
    "a web page": (
        "new.csv", lambda data: b"<!DOCTYPE html>\n<html>404</html>\n", "found a web page, as of a",
    ),
    "a web page named .csv.gz": (
        "new.csv.gz", lambda data: b"\n<html><body>404", "found a web page, as of a failed",
    ),
    "a packed web page": (
        "new.csv.gz", lambda data: gzip.compress(b"<html><body>"), "found a web page, as of a",
    ),
    "a pointer named .csv": (
        "new.csv", lambda data: b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\n",
        "expected a table, found a pointer of git-lfs; fetch the file with git lfs pull",
    ),
    "a pointer named .parquet": (
        "new.parquet", lambda data: b"version https://git-lfs.github.com/spec/v1\noid sha256:4\n",
        "expected a table, found a pointer of git-lfs; fetch the file with git lfs pull",
    ),
    "JSON": ("new.csv", lambda data: b'{"a": 1}\n', "expected a table, found JSON; convert it to"),
    "blanks": ("new.csv", lambda data: b"  \n \n", "expected a table, found an empty file"),
    "commas": ("new.csv", lambda data: b",,,\n" + data, "found a first line without names; take"),
    "several in a zip": (
        "new.csv.zip",
        lambda data: zipped(data, "a.csv", "__MACOSX/._a.csv", "b.csv"),
        "new.csv.zip: expected one file within, found 2: a.csv, b.csv",
    ),
    "pandas' index, written and read again": (
        "new.csv",
        lambda data: b"Unnamed: 0," + data.replace(b"\n", b"\n0,")[:-2],
        "column 1 (Unnamed: 0; pandas writes its index so) is not expected; write it with index=F",
    ),
    "a comma at the end, read and written": (
        "new.csv",
        lambda data: data.replace(b"\n", b",\n").replace(b",\n", b",Unnamed: 9\n", 1),
        "column 10 (Unnamed: 9; the header ends with a delimiter) is not expected; take the l",
    ),
    "gzip within gzip": (
        "new.csv.gz",
        lambda data: gzip.compress(gzip.compress(data)),
        "a gzip file is packed within",
    ),
    "Excel named .csv": (
        "new.csv",
        lambda data: zipped(data, "[Content_Types].xml", "xl/workbook.xml"),
        "new.csv: Excel file; save it as CSV",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", UNREADABLE)
def test_what_cannot_be_read_is_one_line(tmp_path, case):
    name, change, message = UNREADABLE[case]
    data = frames()["train_features"].to_csv(index=False).encode()
    (tmp_path / name).write_bytes(change(data))
    with pytest.raises(UserError) as caught:
        tables.read_features(tmp_path / name)
    assert message in str(caught.value) and str(tmp_path / name) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_spaces_around_names_of_a_parquet_are_no_part_of_them(tmp_path):
    table = frames()["train_features"]
    table.rename(columns={"g-0": " g-0", "cp_time": "cp_time "}).to_parquet(
        tmp_path / "new.parquet", index=False
    )
    assert tables.read_features(tmp_path / "new.parquet").genes == ("g-0", "g-1", "g-2")


def test_a_header_without_an_end_is_not_read_to_the_end(tmp_path, monkeypatch):
    monkeypatch.setattr(headers, "HEADER_BLOCK", 10)
    monkeypatch.setattr(headers, "HEADER_LIMIT", 100)
    (tmp_path / "new.csv").write_bytes(b"x" * 1000)
    with pytest.raises(UserError, match="expected a column sig_id, found x{100}$"):
        tables.read_features(tmp_path / "new.csv")
