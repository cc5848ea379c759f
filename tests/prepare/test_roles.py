"""Roles: what flags and presets make of columns, and the line about a flag that is wrong."""

import re

import pandas as pd
import pyarrow as pa
import pytest
from prepare import screens
from prepare.test_formats import load

from moa_jax.config import DataConfig, RunConfig
from moa_jax.data import prepared
from moa_jax.engine import loading
from moa_jax.errors import UserError
from moa_jax.prepare import lists as lists_of
from moa_jax.prepare.__main__ import main

ROWS = 12


@pytest.fixture
def prepare(tmp_path):
    """Prepares a table of twelve wells, whose columns a test may change, by some flags."""

    def run(*flags, **columns):
        table = pd.DataFrame(
            {
                "name": [f"w{row}" for row in range(ROWS)],
                "f_1": [float(row) for row in range(ROWS)],
                "f_2": [float(row % 5) for row in range(ROWS)],
                "drug": [f"d{row // 2}" for row in range(ROWS)],
                "class": [("x", "y", "z")[row % 3] for row in range(ROWS)],
                **columns,
            }
        )
        table.to_csv(tmp_path / "wells.csv", index=False)
        given = ["--id=name", "--features=^f_", "--labels=class", "--compound=drug", *flags]
        main([str(tmp_path / "wells.csv"), f"--out={tmp_path / 'data'}", *given])
        return load(tmp_path / "data")

    return run


def test_no_flag_beside_those_that_are_needed(prepare):
    found = prepare()
    assert found.treatment == ()
    assert not found.is_control.any()
    assert found.test is None
    assert found.targets.names == ("x", "y", "z")
    assert found.targets.values.sum(1).tolist() == [1] * ROWS
    assert list(found.drug_id) == [f"d{row // 2}" for row in range(ROWS)]


def test_columns_of_zeros_and_ones(prepare, tmp_path):
    ones, few = [1, 0] * 6, [1] * 4 + [0] * 7 + [1]
    found = prepare("--labels=^is_", is_a=ones, is_b=few)
    assert found.targets.names == ("is_a", "is_b")
    assert found.targets.values.T.tolist() == [ones, few]
    (tmp_path / "data").rename(tmp_path / "first")
    assert prepare("--labels=is_b,is_a", is_a=ones, is_b=few).targets.names == ("is_b", "is_a")


def test_a_label_that_was_not_measured_is_an_empty_cell(prepare, tmp_path):
    with pytest.raises(UserError, match="column is_a, sig_id w1: expected"):
        prepare("--labels=^is_", is_a=[1, None] * 6, is_b=[0, 1] * 6)
    written = pd.read_csv(tmp_path / "data" / "train_targets_scored.csv")
    assert written["is_a"].isna().tolist() == [False, True] * 6
    assert written["is_b"].tolist() == [0, 1] * 6
    # A run on the folder masks these cells without being told.
    config = RunConfig({}, data=DataConfig(folder=str(tmp_path / "data")))
    found = loading.load_data(prepared.applied(config, ()))
    assert found.targets.known.tolist() == [[True, True], [False, True]] * 6


def test_groups_of_any_column(prepare, tmp_path):
    donors = [f"donor {row // 4}" for row in range(ROWS)]
    assert prepare("--groups=donor", donor=donors).groups is None
    file = str(tmp_path / "data" / "groups.csv")
    fields = prepared.read(tmp_path / "data")["config"]["data"]
    assert "missing_targets" not in fields
    config = RunConfig({}, data=DataConfig(folder=str(tmp_path / "data"), groups=file))
    found = loading.load_data(prepared.applied(config, ()))
    assert found.groups.tolist() == donors


def test_another_separator_and_words_for_nothing(prepare):
    found = prepare("--label_separator=;", "--labels=moa",
                    moa=["a;b", "b; a", "Unknown", "NA", "-666", "c|d"] * 2)  # fmt: skip
    assert found.targets.names == ("a", "b", "c|d")
    assert list(found.test.ids) == ["w2", "w3", "w4", "w8", "w9", "w10"]


def test_lists_of_labels(prepare, tmp_path):
    """As parquet has them, and as Python writes them into a table of texts."""
    lists = [["x", "y"], ["x"], []] * 4
    expected = [[1, 1], [1, 0]] * 4
    assert prepare(**{"class": [str(one) for one in lists]}).targets.values.tolist() == expected
    table = pd.read_csv(tmp_path / "wells.csv").assign(**{"class": lists})
    table.to_parquet(tmp_path / "wells.parquet")
    flags = ["--id=name", "--features=^f_", "--labels=class"]
    main([str(tmp_path / "wells.parquet"), f"--out={tmp_path / 'other'}", *flags])
    assert load(tmp_path / "other").targets.values.tolist() == expected
    written = pa.array([str(one) for one in lists], pa.large_string())  # of pandas and AnnData
    for column in (written, written.dictionary_encode()):
        assert lists_of.texts(pa.chunked_array([column]), "|").tolist() == ["x|y", "x", ""] * 4
    with pytest.raises(
        UserError, match=r"column class, row 1: expected a text, found \['x', 'y'\]"
    ):
        main([str(tmp_path / "wells.parquet"), f"--out={tmp_path / 'third'}", *flags,
              "--compound=class"])  # fmt: skip


def test_another_separator_that_labels_hold_is_told(prepare, caplog):
    prepare(**{"class": ["x;y", "x", "y"] * 4})
    assert "1 labels hold ';', such as x;y, and are read as one each" in caplog.text


def test_what_is_no_number_is_not_missing(prepare, tmp_path):
    prepare()
    table = pd.read_csv(tmp_path / "wells.csv").astype({"f_2": object})
    flags = ["--id=name", "--features=^f_", "--labels=class", f"--out={tmp_path / 'other'}"]
    for cell in (["q"], b"\xff\xfe", {"a": 1.0}):
        table["f_2"] = [cell] * ROWS
        table.to_parquet(tmp_path / "wells.parquet")
        with pytest.raises(UserError, match="column f_2, row 1: expected a number, found"):
            main([str(tmp_path / "wells.parquet"), *flags])
    table = table.assign(f_2=range(ROWS), drug=[b"\xff\xfe"] * ROWS)
    table.to_parquet(tmp_path / "wells.parquet")
    with pytest.raises(UserError, match="column drug, row 1: .* found b.*; write it in UTF-8$"):
        main([str(tmp_path / "wells.parquet"), *flags, "--compound=drug"])


def test_a_label_is_one_however_its_characters_are_coded(prepare):
    assert prepare(**{"class": ["\u00e9", "e\u0301", "x\u200b"] * 4}).targets.names == (
        "x",
        "\u00e9",
    )


@pytest.mark.parametrize("mark", [",", "/", " + "])
def test_labels_between_marks_that_names_have_too_are_told(prepare, caplog, mark):
    prepare(**{"class": [f"x{mark}y", "x", "y", "p,q"] * 3})
    told = f"1 labels hold '{mark.strip()}', such as x{mark}y, and are read as one each"
    assert told in caplog.text and caplog.text.count("are read as one each") == 1


def test_a_separator_that_parts_nothing_is_told(prepare, caplog):
    prepare("--label_separator=;")
    assert "column class: no cell has --label_separator=';'" in caplog.text


def test_what_may_not_be_measured_is_told(prepare, caplog):
    assert prepare(**{"class": ["-1", "0", "1"] * 4}).targets.names == ("-1", "0", "1")
    assert "column class: -1, 0 and 1 are read as three classes" in caplog.text


def test_names_that_a_spreadsheet_has_changed_are_told(prepare, caplog):
    prepare(drug=["1.23E+08", "a", "b", "c"] * 3, **{"class": ["1-Mar", "Sep-02", "9-1-1"] * 4})
    assert "Names of labels that a spreadsheet made dates of, or" in caplog.text
    assert "may be one: 2, such as 1-Mar, Sep-02." in caplog.text
    assert "may be one: 1, such as 1.23E+08." in caplog.text


def test_brackets_without_a_label_are_none(prepare):
    assert prepare(**{"class": ["[]", "x", "y", "''"] * 3}).targets.names == ("x", "y")


def test_numbers_of_cells_that_are_left_out(prepare, tmp_path):
    found = prepare("--cell_count=cells", cells=[7] * ROWS)
    assert (found.genes, found.cells) == (("f_1", "f_2"), ())
    assert found.gene_values[:, 0].tolist() == list(range(ROWS))


def test_compounds_that_differ_by_case_are_told(prepare, caplog):
    prepare(drug=["Taxol", "taxol ", "TAX OL", "b"] * 3)
    assert "count as several: 1, such as TAX OL and Taxol and taxol." in caplog.text


def test_labels_that_differ_by_case_are_told(prepare, caplog):
    prepare(**{"class": ["Agonist", "agonist ", "y"] * 4})
    assert "Labels whose names differ by case or spaces alone, which count as" in caplog.text
    assert "1, such as Agonist and agonist." in caplog.text


def test_wells_to_predict_without_a_compound_are_told(prepare, caplog):
    drugs = [f"d{row // 2}" for row in range(ROWS - 3)] + [None] * 3
    labels = ["x", "y"] * 5 + [None] * 2
    prepare("--control_column=kind", drug=drugs, kind=["trt"] * 11 + ["dmso"], **{"class": labels})
    assert "Wells to predict without a compound, which may be empty: 1." in caplog.text


def test_values_with_commas_and_values_that_are_not_there(prepare, caplog, tmp_path):
    kinds = ["DMSO, 0.1 %", "mock", *["drug"] * 10]
    found = prepare("--control_column=kind", "--control_value=DMSO, 0.1 %", kind=kinds)
    assert found.is_control.tolist() == [True] + [False] * 11
    (tmp_path / "data").rename(tmp_path / "first")
    flags = "--control_column=kind", "--control_value=mock,empty"
    found = prepare(*flags, "--split_column=kind", "--split_test=DMSO, 0.1 %", kind=kinds)
    assert found.is_control.tolist() == [True] + [False] * 10 and len(found.test) == 1
    assert "--control_value: no cell of column kind is 'empty', it has DMSO, 0.1 %" in caplog.text


def test_values_are_one_whatever_their_case(prepare):
    flags = "--control_column=kind", "--control_value=DMSO", "--split_column=part"
    kinds = ["DMSO", "dmso", *["drug"] * 10]
    found = prepare(*flags, kind=kinds, part=["Train"] * 10 + ["Test"] * 2)
    assert found.is_control.tolist() == [True] * 2 + [False] * 8
    assert len(found.test) == 2


def test_no_column_of_ids(prepare):
    assert prepare("--id=", sig_id=["one"] * ROWS).ids[:2].tolist() == ["row_1", "row_2"]


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"class": ["index", "z"] * 6}, "--labels: 'index' is how pandas calls its numbering"),
        ({"class": ["sig_id", "z"] * 6}, "--labels: 'sig_id' is what the layout calls the ids of"),
        (
            {"name": ["a\nb", *map(str, range(11))]},
            "column name, row 1: expected an id without line",
        ),
        ({"name": ["sig_id", *map(str, range(11))]}, "row 1: expected an id that is not what the"),
        ({"f_1": ["f_1", *range(11)]}, "column f_1, row 1: .* found 'f_1'; the header once more"),
        ({"class": [0.13, 2, None] * 4}, "column class, row 1: expected a class, found the number"),
        ({"class": ['="0.5"', "2"] * 6}, "column class, row 1: expected a class, found the number"),
        ({"dose": ["10,5"] * 12}, "column dose, row 1: expected a dose, found '10,5'; decimals"),
        ({"dose": ["low, or not"] * 12}, "no run could read .*config.data.cp_doses: expected each"),
        ({"f_1": [1e20, *range(11)]}, r"column f_1: expected numbers between -1e\+15 and 1e\+15"),
    ],
)
def test_what_no_run_could_read_is_not_written(prepare, tmp_path, columns, message):
    # Lines that are broken within quotes are of parquet and AnnData, or of short tables.
    with pytest.raises(UserError, match=message) as error:
        prepare(*(["--dose=dose"] if "dose" in columns else []), **columns)
    assert "\n" not in str(error.value)
    assert [path.name for path in tmp_path.iterdir()] == ["wells.csv"]


def test_a_line_break_in_a_label_is_a_space(prepare, tmp_path):
    table = pd.DataFrame({"name": range(ROWS), "f_1": range(ROWS), "class": ["x\ny", "x y"] * 6})
    table.to_parquet(tmp_path / "wells.parquet")
    flags = ["--id=name", "--features=^f_", "--labels=class", f"--out={tmp_path / 'data'}"]
    main([str(tmp_path / "wells.parquet"), *flags])
    assert load(tmp_path / "data").targets.names == ("x y",)


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
@pytest.mark.parametrize("names", ["texts", "numbers", "twice"])
def test_names_of_rows_need_no_name(prepare, tmp_path, suffix, names):
    """As pandas and R write them: they are ids unless they number the rows, or are not unique."""
    index = {
        "texts": [f"w{row}" for row in range(ROWS)],
        "numbers": [row + 5 for row in range(ROWS)],
        "twice": ["w", "v"] * 6,
    }[names]
    table = pd.DataFrame({"f_1": range(ROWS), "class": ["x", "y"] * 6}, index=index)
    path = tmp_path / f"rows{suffix}"
    getattr(table, "to_csv" if suffix == ".csv" else "to_parquet")(path)
    flags = ["--features=^(?!class)", "--labels=class", "--min_compounds=1"]
    main([str(path), f"--out={tmp_path / 'data'}", *flags])
    found = load(tmp_path / "data")
    numbered = [f"row_{row + 1}" for row in range(ROWS)]
    assert found.ids.tolist() == (index if names == "texts" else numbered)
    assert found.genes == ("f_1",)
    if names == "texts":
        table.index = [f"new_{row}" for row in range(ROWS)]
        getattr(table, "to_csv" if suffix == ".csv" else "to_parquet")(path)
        main([str(path), f"--out={tmp_path / 'new.csv'}", f"--like={tmp_path / 'data'}"])
        assert pd.read_csv(tmp_path / "new.csv")["sig_id"].tolist() == list(table.index)
        getattr(table, "to_csv" if suffix == ".csv" else "to_parquet")(path, index=False)
        with pytest.raises(UserError, match="expected names of the rows in a first column"):
            main([str(path), f"--out={tmp_path / 'more.csv'}", f"--like={tmp_path / 'data'}"])


def test_names_of_rows_that_were_written_twice(tmp_path):
    """The numbering of a table that was read with its names, and written again."""
    table = pd.DataFrame({"f_1": range(ROWS), "class": ["x", "y"] * 6})
    table.insert(0, "Unnamed: 0", [f"w{row}" for row in range(ROWS)])
    table.to_csv(tmp_path / "wells.csv")
    table[["Unnamed: 0", "class"]].to_csv(tmp_path / "more.csv")
    table.drop(columns="class").to_csv(tmp_path / "wells.csv")
    flags = ["--features=^f_", "--labels=class", "--min_compounds=1"]
    flags += [f"--metadata={tmp_path / 'more.csv'}", f"--out={tmp_path / 'data'}"]
    main([str(tmp_path / "wells.csv"), *flags])
    found = load(tmp_path / "data")
    assert found.ids.tolist() == [f"w{row}" for row in range(ROWS)]
    assert found.targets.values.tolist() == [[1, 0], [0, 1]] * 6


@pytest.mark.parametrize(
    "cells", [["['x' 'y']", "['x']", "[]"], ["('x', 'y')", "('x',)", "()"], ["{'y', 'x'}", "{'x'}"]]
)
def test_lists_as_numpy_and_python_write_them(prepare, cells):
    found = prepare(**{"class": (cells * 6)[:ROWS]})
    assert found.targets.names == ("x", "y")
    assert found.targets.values[:2].tolist() == [[1, 1], [1, 0]]


def test_lists_that_nobody_can_part_are_told(prepare, caplog):
    prepare(**{"class": ["[x, y]", "z"] * 6})
    assert "1 labels in brackets, such as [x, y], are read as one each" in caplog.text


@pytest.mark.parametrize("kind", [pa.list_(pa.string(), 2), pa.list_(pa.string())])
def test_lists_of_any_kind(kind):
    column = pa.chunked_array([pa.array([["x", "y"], None], kind)])
    assert lists_of.texts(column, "|").tolist() == ["x|y", None]


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_infinite_numbers_are_missing(tmp_path, suffix):
    table = pd.DataFrame({"name": range(ROWS), "f_1": range(ROWS), "class": ["x", "y"] * 6})
    table["f_1"] = [float("-inf"), *map(float, range(1, ROWS - 1)), float("inf")]
    path = tmp_path / f"wells{suffix}"
    getattr(table, "to_csv" if suffix == ".csv" else "to_parquet")(path, index=False)
    with pytest.raises(UserError, match="constant or mostly missing"):  # two of twelve are
        main([str(path), f"--out={tmp_path / 'data'}", "--id=name", "--features=^f_",
              "--labels=class", "--min_compounds=1"])  # fmt: skip


def test_columns_that_nothing_reads_are_told(prepare, caplog):
    caplog.set_level("INFO")
    prepare("--plate=plate", plate=["P"] * ROWS, Metadata_more=range(ROWS), g_1=range(ROWS))
    assert "not read: 1 columns, such as g_1" in caplog.text


def test_names_that_are_not_what_they_seem_are_told(prepare, caplog):
    drugs = ["DMSO", "0.1% DMSO", "a", "b", "a + b", "poscon"] * 2
    drugs[2], drugs[8] = "BRD-K00000001-001-01-9", "BRD-K00000001-003-07-2"
    kinds = ["negative", "trt", "trt", "trt", "trt", "control"] * 2
    labels = ["vehicle", None, "x", "y", "x", "x", "vehicle", None, "y", "x", "y", "x"]
    drugs[9] = "a"
    prepare(
        "--control_column=kind", "--features=^[fN]", kind=kinds, drug=drugs,
        Nuclei_Location_Center_X=range(ROWS), **{"class": labels},
    )  # fmt: skip
    for line in (
        "may be none, whose wells count as treated ones: 0.1% DMSO. --control_column",
        "Controls that have labels of treated wells, which are ignored: 2, such as of poscon.",
        "of a fold: 1, such as BRD-K00000001-001-01-9 and BRD-K00000001-003-07-2. Name",
        "stand on the other side of a fold: 1, such as a + b.",
        "and not what it is like: 1, such as Nuclei_Location_Center_X. Leave them out",
    ):
        assert line in caplog.text


@pytest.mark.parametrize("name", ["ctrl", "Non-Targeting", "untreated", "Negative control"])
def test_controls_are_told_by_their_names(prepare, name, caplog):
    with caplog.at_level("INFO", logger="absl"):
        found = prepare("--control_column=kind", kind=[name, "trt", "dmso", "a"] * 3)
    assert found.is_control.tolist() == [True, False, True, False] * 3
    assert f"controls: {', '.join(sorted((name, 'dmso')))} of column kind" in caplog.text


def test_labels_of_controls_are_told(prepare, caplog):
    prepare(**{"class": ["vehicle (DMSO)", "x", "y"] * 4})
    assert "and are learned as mechanisms: vehicle (DMSO). --control_column" in caplog.text


def test_flags_name_columns_in_any_code(prepare):
    label = "e\u0301tat"
    found = prepare(f"--labels={label},class_b", **{label: [0, 1] * 6, "class_b": [1, 0] * 6})
    assert found.targets.names == ("\u00e9tat", "class_b")


def test_classes_that_are_numbers(prepare):
    found = prepare("--labels=group", group=[1.0, 2.0, None] * 4)
    assert found.targets.names == ("1", "2")
    assert len(found.test) == 4


def test_labels_of_few_compounds(prepare, tmp_path):
    # Of y there are four wells of two compounds, of z two of one.
    found = prepare("--min_compounds=3", "--labels=moa", moa=list("xxxxxxyyyyzz"))
    assert found.targets.names == ("x",)
    assert found.targets.values.sum() == 6 and len(found) == ROWS
    dropped = prepared.read(tmp_path / "data")["labels"]["dropped"]
    assert dropped["y"] == {"compounds": 2, "why": "fewer than 3 compounds"}
    assert dropped["z"]["compounds"] == 1


def test_a_split_of_annotated_rows(prepare, tmp_path):
    found = prepare("--split_column=part", "--split_test=held", part=(["fit"] * 3 + ["held"]) * 3)
    assert list(found.test.ids) == ["w3", "w7", "w11"]
    held = pd.read_csv(tmp_path / "data" / "held_out_targets.csv", index_col="sig_id")
    assert held.to_numpy().tolist() == [[1, 0, 0], [0, 1, 0], [0, 0, 1]]


def test_controls_doses_and_times(prepare):
    found = prepare(
        "--control_column=kind", "--control_value=empty", "--dose=uM", "--time=age",
        kind=["empty"] + ["drug"] * 11, uM=[None] + ["10 uM", "0.5 \u00b5M"] * 5 + ["10 uM"],
        age=[1000] + [0.5, 24] * 5 + [24],
    )  # fmt: skip
    assert found.is_control.tolist() == [True] + [False] * 11
    # A control has no dose, and a time that no treated well has: both are the first level.
    assert list(found.cp_dose[:3]) == ["0.5", "10", "0.5"]
    assert found.cp_time[:3].tolist() == [0.5, 0.5, 24.0]


def test_wells_without_a_dose_are_left_out(prepare, tmp_path):
    found = prepare("--dose=uM", uM=[1, None] + [1, 2] * 5)
    assert len(found) == ROWS - 1
    assert prepared.read(tmp_path / "data")["left_out"]["rows"] == {"no dose in uM": 1}


def test_missing_numbers_and_constant_columns(prepare, tmp_path):
    values = [float(row) for row in range(ROWS)]
    found = prepare(f_3=[None, *values[1:]], f_4=[None, None, *values[2:]], f_5=[7] * ROWS,
                    f_6=["-666", *values[1:]])  # fmt: skip
    assert found.genes == ("f_1", "f_2", "f_3", "f_6")
    assert found.gene_values[0].tolist() == [0, 0, 6, 6]
    described = prepared.read(tmp_path / "data")
    assert described["missing"]["values"]["f_3"] == 6
    assert described["left_out"]["missing"] == {"f_4": 0.1667}
    assert described["left_out"]["constant"] == ["f_5"]


def test_a_role_that_the_preset_gives_can_be_taken_away(tmp_path):
    screens.cell_painting(tmp_path / "wells.csv")
    main([str(tmp_path / "wells.csv"), f"--out={tmp_path / 'data'}", "--preset=pycytominer",
          "--dose=", "--cell_count=", "--compound=", "--control_column="])  # fmt: skip
    found = load(tmp_path / "data")
    assert found.cells == () and found.treatment == ("cp_time",) and found.drug_id is None


def test_jump(tmp_path):
    table = screens.cell_painting(tmp_path / "wells.csv")
    drugs = table.pop("Metadata_broad_sample").str.replace("BRD-", "JCP2022_0000")
    table["Metadata_JCP2022"] = drugs.replace("DMSO", "JCP2022_033924")
    table["Metadata_Source"] = "source_4"
    table.loc[7, "Metadata_JCP2022"] = "JCP2022_999999"  # untreated
    table.to_csv(tmp_path / "wells.csv", index=False)
    main([str(tmp_path / "wells.csv"), f"--out={tmp_path / 'data'}", "--preset=jump"])
    found = load(tmp_path / "data")
    assert found.ids[0] == "source_4_P1_A00"
    assert found.is_control.sum() == 10
    assert len(found) + len(found.test) == screens.WELLS - 1
    assert found.drug_id[0] == "JCP2022_000000"


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--preset=pycytominr"], "--preset: expected one of .*; did you mean pycytominer?"),
        (
            ["--compound=drugs"],
            "--compound: expected a column of the table, found 'drugs'; did you",
        ),
        (["--id=name,wel"], "--id: expected a column of the table, found 'wel'"),
        (["--labels=mechanism"], "--labels: expected a column of the table, found 'mechanism'"),
        (["--labels=class,drug"], "--labels: column class, row 1: expected 0 or 1"),
        (["--features=^g_"], "--features: expected columns that '^g_' finds, found none; it has"),
        (["--features=("], "--features: '[(]' is no regular expression"),
        (["--features="], "--features: expected a regular expression"),
        (["--control_column=class"], "--control_value: expected a value of column class"),
        (["--control_column=class"], "found none, and no cell is called as controls are; it has x"),
        (["--labels=CLASS"], "found 'CLASS'; did you mean class?"),
        (["--id=drug"], "d0 stands more than once; .* by --id, or none by --id=$"),
        (["--control_column=class", "--control_value=q"], "found 'q'; it has x, y, z"),
        (["--split_test=held"], "--split_test: given, but no --split_column; found 'held'"),
        (["--dose_unit=class"], "--dose_unit: given, but no --dose; found 'class'"),
        (["--control_column=", "--control_value=x"], "--control_value: given, but no --control_c"),
        (["--time=class"], "--labels: expected another column than that of --time, found 'class'"),
        (["--control_value=x"], "--control_value: given, but no --control_column"),
        (["--split_column=class"], "--split_test: expected a value of column class, found 'test'"),
        (["--time=drug"], "column drug, row 1 .w0.: expected hours as a number, found 'd0'"),
        (["--min_compounds=7"], "--min_compounds=7: no label has so many compounds, the most is 4"),
        (["--min_compounds=0"], "--min_compounds: expected at least 1, found 0"),
        (["--min_compounds=few"], "--min_compounds: invalid int value: 'few'; see moa-jax prepare"),
        (["--lables=class"], "unrecognized arguments: --lables=class; see moa-jax prepare --help"),
        (["--metadata=none.csv"], "none.csv: expected a file, found none"),
        (["--metadata="], "--metadata: expected files, found an empty text"),
        (["--genes=none.csv"], "--genes: .*: expected a file with a matrix"),
        (["--like=nowhere"], "--features: given, but --like=nowhere says what columns are"),
        (["--out="], "--out: expected a folder to write"),
    ],
)
def test_a_flag_that_is_wrong(prepare, tmp_path, flags, message):
    with pytest.raises(UserError) as error:
        prepare(*flags)
    assert re.search(message.replace("^", "\\^"), str(error.value)), error.value
    assert "\n" not in str(error.value)
    assert [path.name for path in tmp_path.iterdir()] == ["wells.csv"]
