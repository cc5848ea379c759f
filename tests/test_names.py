"""Names of columns and levels that are not the competition's, and columns that are left out."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
from data_folders import frames, write

from moa_jax.config import DataConfig
from moa_jax.data import tables
from moa_jax.data.dataset import ORIGINAL_LEVELS, Levels
from moa_jax.data.names import Prefixes
from moa_jax.errors import UserError
from moa_jax.schema import build

CELL_PAINTING = {
    "g-0": "Cells_AreaShape_Area",
    "g-1": "Nuclei_Location_Center_X",
    "g-2": "Nuclei_Texture_Entropy_DNA_5_00",
    "c-0": "1007_s_at",
    "c-1": "Metadata_Plate",
}


def read(file, **settings):
    data = DataConfig(**settings)
    return tables.read_features(file, Levels.of(data), prefixes=Prefixes.of(data))


@pytest.fixture
def plate(tmp_path):
    table = frames()["train_features"].rename(columns=CELL_PAINTING)
    table["Metadata_Plate"] = "P1"
    table.to_csv(tmp_path / "plate.csv", index=False)
    return tmp_path / "plate.csv"


def test_prefixes_tell_the_columns(plate, caplog):
    with caplog.at_level("INFO", logger="absl"):
        found = read(
            plate,
            gene_prefixes=("*_at", "Cells_", "Cytoplasm_", "Nuclei_"),
            ignore=("Metadata_", "Nuclei_Location_"),
        )
    assert found.genes == (
        "Cells_AreaShape_Area", "Nuclei_Texture_Entropy_DNA_5_00", "1007_s_at",
    )  # fmt: skip
    assert found.cells == ()
    assert "plate.csv: columns left out: 2, such as Nuclei_Location_Center_X" in caplog.text
    assert "plate.csv: config.data.gene_prefixes: no column is Cytoplasm_..." in caplog.text
    found = read(plate, gene_prefixes=("1007",), cell_prefixes=("Nuclei_",), ignore=("*",))
    assert (found.genes, found.cells) == (
        ("1007_s_at",), ("Nuclei_Location_Center_X", "Nuclei_Texture_Entropy_DNA_5_00"),
    )  # fmt: skip


def test_columns_are_found_however_their_characters_are_coded(tmp_path):
    """Those of a data frame that was trained on are as they were."""
    table = pd.DataFrame({"sig_id": ["a", "b"], "g-0": [1.0, 2.0], "Zelle_\u00e9": [3.0, 4.0]})
    table.to_csv(tmp_path / "new.csv", index=False)
    genes = ("Zelle_e\u0301", "g-0")
    (rows,) = tables.stream(tmp_path / "new.csv", genes, ())
    assert rows.genes == genes and rows.features.tolist() == [[3, 1], [4, 2]]


def test_compounds_that_are_left_out_name_nothing(tmp_path):
    table = pd.DataFrame({"sig_id": ["a", "b"], "g-0": [1, 2], "compound": ["x", "x"]})
    table.to_csv(tmp_path / "new.csv", index=False)
    for ignore, expected in (((), ["x", "x"]), (("comp",), None)):
        prefixes = Prefixes(("g-",), ("c-",), ignore)
        (rows,) = tables.stream(tmp_path / "new.csv", ("g-0",), (), prefixes=prefixes)
        assert rows.drug_id is None if expected is None else rows.drug_id.tolist() == expected


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, r"expected columns g-\.\.\. or c-\.\.\., found none; config.data.gene_prefixes and "),
        ({"gene_prefixes": ("*_at",)}, "column Cells_AreaShape_Area and 3 more is not expected; c"),
        (
            {"gene_prefixes": ("*_at", "Cells_", "Nuclei_")},
            "Metadata_Plate is not expected; .*config.data.cell_prefixes .*config.data.ignore",
        ),
        ({"gene_prefixes": ("Cells_,Nuclei_",)}, r"each of several in quotes, \"\('Cells_', 'Nuc"),
        ({"gene_prefixes": ("",)}, "gene_prefixes: expected a beginning of names, found an empty"),
        ({"ignore": ("c-",)}, "config.data.ignore: c- is in config.data.cell_prefixes too"),
    ],
)
def test_messages_name_the_settings(plate, settings, message):
    with pytest.raises(UserError, match=message) as caught:
        read(plate, **settings)
    assert "\n" not in str(caught.value)


def test_new_rows_may_have_ignored_columns_of_their_own(plate, tmp_path):
    data = DataConfig(gene_prefixes=("Cells_", "Nuclei_"), ignore=("*",))
    train = read(plate, gene_prefixes=("Cells_", "Nuclei_"), ignore=("*",))
    table = frames()["train_features"].rename(columns=CELL_PAINTING)[::-1]
    table.assign(Metadata_Site=3).to_csv(tmp_path / "new.csv", index=False)
    (found,) = tables.stream(
        tmp_path / "new.csv", train.genes, (), ORIGINAL_LEVELS, prefixes=Prefixes.of(data)
    )
    assert found.genes == train.genes
    np.testing.assert_array_equal(found.features, train.features[::-1])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"cp_doses": ("10", "5", "1e1")}, "cp_doses: expected different values, found '10'"),
        ({"cp_times": (24, 24.0)}, "config.data.cp_times: expected different values, found 24"),
        ({"control_type": "trt_cp"}, "treated_type and config.data.control_type: expected"),
        ({"cp_doses": ("D1,D2",)}, "cp_doses: expected each of several in quotes"),
        ({"cp_doses": ("D1", "")}, "cp_doses: expected texts of cells, found '', which stands"),
        ({"cp_doses": ("NA", "1")}, "cp_doses: expected texts of cells, found 'NA', which stands"),
        ({"cp_doses": ("nan ",)}, "cp_doses: expected texts of cells, found 'nan '"),
        ({"treated_type": ""}, "config.data.treated_type and .* texts of cells, found ''"),
        ({"control_type": "-666"}, "texts of cells, found '-666'"),
    ],
)  # fmt: skip
def test_levels_that_are_one_or_none(settings, message):
    with pytest.raises(UserError, match=message):
        Levels.of(DataConfig(**settings))


def test_doses_may_be_given_as_numbers():
    data = build(DataConfig, {"cp_doses": (0.04, 10), "cp_times": (6.0,), "ignore": ()}, "data")
    assert data.cp_doses == ("0.04", "10") and str(data.cp_times) == "(6,)" and data.ignore == ()
    for field, value in {"cp_doses": (True,), "cp_times": ("6h",), "gene_prefixes": ()}.items():
        with pytest.raises(UserError, match=f"data.{field}: expected"):
            build(DataConfig, {field: value}, "data")


@pytest.mark.parametrize("absent", ["cp_type", "cp_time", "cp_dose"])
def test_a_column_that_is_left_out_is_one_level(tmp_path, caplog, absent):
    content = frames()
    for stem in ("train_features", "test_features"):
        content[stem] = content[stem].drop(columns=absent)
    if absent == "cp_type":
        content["train_targets_scored"]["one"] = 1
    write(tmp_path, content)
    levels = dataclasses.replace(ORIGINAL_LEVELS, cp_time=(48, 24, 72), cp_dose=("D2", "D1"))
    with caplog.at_level("INFO", logger="absl"):
        found = tables.load(tmp_path, levels)
    value = {
        "cp_type": "trt_cp",
        "cp_time": "48, the first of config.data.cp_times",
        "cp_dose": "D2, the first of config.data.cp_doses",
    }[absent]
    for stem in ("train_features", "test_features"):
        assert f"{stem}.csv: no column {absent}, every row counts as {value}" in caplog.text
    for rows in (found, found.test):
        assert absent not in rows.treatment and len(rows.treatment) == 2
        assert absent != "cp_type" or not rows.is_control.any()
        assert absent != "cp_time" or set(rows.cp_time) == {48}
        assert absent != "cp_dose" or set(rows.cp_dose) == {"D2"}
    assert found.description()["columns"]["treatment"] == list(found.treatment)
    assert found.cp_time.dtype == np.int64


@pytest.mark.parametrize(
    ("lacking", "having"),
    [("train_features", "test_features"), ("test_features", "train_features")],
)
def test_training_and_test_rows_have_the_same_columns(tmp_path, lacking, having):
    content = frames()
    content[lacking] = content[lacking].drop(columns="cp_dose")
    write(tmp_path, content)
    with pytest.raises(UserError) as caught:
        tables.load(tmp_path)
    assert str(caught.value) == (
        f"{tmp_path / lacking}.csv: expected a column cp_dose, found none, while "
        f"{tmp_path / having}.csv had one; add it, or take it from both"
    )
    content[having]["cp_dose"] = "D1"
    write(tmp_path, content)
    levels = dataclasses.replace(ORIGINAL_LEVELS, cp_dose=("D1",))
    assert set(tables.load(tmp_path, levels).test.cp_dose) == {"D1"}


@pytest.mark.parametrize("name", ["cp_time", "cp_dose"])
def test_new_rows_have_the_columns_of_the_training_rows(tmp_path, name):
    """A level that no training row had must not be read as one that they had."""
    table, every = frames()["train_features"], ("cp_type", "cp_time", "cp_dose")
    table.to_csv(tmp_path / "new.csv", index=False)
    others = [other for other in every if other != name]
    with pytest.raises(UserError, match=f"the training rows: expected a column {name}, found none"):
        next(tables.stream(tmp_path / "new.csv", treatment=others))
    table.drop(columns=name).to_csv(tmp_path / "new.csv", index=False)
    with pytest.raises(
        UserError, match=f"new.csv: expected a column {name}, found none, while the"
    ):
        next(tables.stream(tmp_path / "new.csv", treatment=every))
    assert next(tables.stream(tmp_path / "new.csv", treatment=others)).treatment == tuple(others)


def test_rows_without_types_are_treated(tmp_path):
    content = frames()
    content["test_features"] = content["test_features"].drop(columns="cp_type")
    write(tmp_path, content)
    assert not tables.load(tmp_path).test.is_control.any()


def test_a_misspelt_column_of_the_treatment(tmp_path):
    content = frames()
    content["train_features"] = content["train_features"].rename(columns={"cp_time": "CP_Time"})
    write(tmp_path, content)
    with pytest.raises(UserError, match="column CP_Time is not expected; did you mean cp_time?"):
        tables.load(tmp_path)


def test_controls_need_no_row_in_the_targets(tmp_path, caplog):
    content = frames()
    treated = content["train_features"]["cp_type"] == "trt_cp"
    for stem in ("train_targets_scored", "train_targets_nonscored", "train_drug"):
        content[stem] = content[stem][treated][::-1]
    write(tmp_path, content)
    with caplog.at_level("INFO", logger="absl"):
        found = tables.load(tmp_path)
    assert "train_targets_scored.csv: 2 controls have no row, which counts as all 0" in caplog.text
    expected = content["train_targets_scored"].sort_index()["one"]
    np.testing.assert_array_equal(found.scored.values[treated, 0], expected)
    assert not found.scored.values[~treated].any() and not found.nonscored.values[~treated].any()
    assert found.drug_id[[0, 4, 9]].tolist() == ["d0", "ctl_vehicle", "ctl_vehicle"]


@pytest.mark.parametrize("stem", ["train_features", "train_targets_scored", "train_drug"])
def test_numbering_of_rows_is_no_column(tmp_path, stem):
    content = frames()
    content[stem].insert(0, "Unnamed: 0", range(12))
    write(tmp_path, content)
    data = DataConfig(gene_prefixes=("*",))
    with pytest.raises(UserError, match=rf"{stem}.csv: column 1 \(Unnamed: 0; pandas writes its"):
        tables.load(tmp_path, prefixes=Prefixes.of(data))


@pytest.mark.parametrize("name", ["index", "level_0", "__index_level_0__"])
def test_numbering_of_rows_under_its_own_name_is_no_column(tmp_path, name):
    frames()["train_features"].assign(**{name: 1}).to_csv(tmp_path / "new.csv", index=False)
    with pytest.raises(UserError, match=f"new.csv: column {name}, pandas' numbering of the rows"):
        read(tmp_path / "new.csv", gene_prefixes=("*",))


def test_numbering_of_rows_may_be_ignored(tmp_path):
    frames()["train_features"].assign(**{"Unnamed: 0": 1}).to_csv(tmp_path / "new.csv", index=False)
    assert len(read(tmp_path / "new.csv", ignore=("Unnamed",)).genes) == 3


@pytest.mark.parametrize("names", [("m1", "M1"), ("a b", "a  b"), ("ab", "a b"), ("10 µ", "10 μ")])
def test_names_that_differ_by_case_or_spaces_alone_are_told(tmp_path, caplog, names):
    content = frames()
    scored = content["train_targets_scored"]
    content["train_targets_scored"] = scored.rename(columns={"one": names[0]})
    scored = content["train_targets_scored"].rename(columns={"two, with comma": names[1]})
    line = f"columns {names[0]} and {names[1]} differ by case or spaces alone"
    write(tmp_path, {**content, "train_targets_scored": scored})
    content.pop("sample_submission")
    (tmp_path / "sample_submission.csv").unlink()
    with caplog.at_level("WARNING", logger="absl"):
        tables.load(tmp_path)
    assert caplog.messages == [f"{tmp_path / 'train_targets_scored.csv'}: {line}"]
    caplog.clear()
    nonscored = content["train_targets_nonscored"].rename(columns={"three": names[1]})
    write(tmp_path, {**content, "train_targets_nonscored": nonscored})
    with caplog.at_level("WARNING", logger="absl"):
        tables.load(tmp_path)
    assert caplog.messages == [f"{tmp_path / 'train_targets_nonscored.csv'}: {line}"]


def test_targets_that_are_scored_and_not(tmp_path):
    content = frames()
    content["train_targets_nonscored"]["one"] = 0
    write(tmp_path, content)
    with pytest.raises(UserError, match="nonscored.csv: column one is in train_targets_scored.csv"):
        tables.load(tmp_path)


def test_a_treated_row_needs_its_targets(tmp_path):
    content = frames()
    content["train_targets_scored"] = content["train_targets_scored"].iloc[:3]
    write(tmp_path, content)
    with pytest.raises(UserError, match="expected sig_id 0003 and 6 more of train_features, found"):
        tables.load(tmp_path)
