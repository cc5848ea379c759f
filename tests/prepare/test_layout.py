"""The folder: whole or not at all, what its page says, and new rows that follow it."""

import dataclasses
import functools
import json
import os
import shutil

import numpy as np
import pandas as pd
import pytest
from page import Page
from prepare import screens
from prepare.test_formats import load

from moa_jax.config import DataConfig, RunConfig, parse
from moa_jax.data import prepared, tables
from moa_jax.data.dataset import Levels
from moa_jax.data.names import Prefixes
from moa_jax.errors import UserError
from moa_jax.prepare import new_rows, page
from moa_jax.prepare.__main__ import main
from moa_jax.recipes import RECIPES
from moa_jax.store import lock


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The Cell Painting screen as `wells.csv`, and the folder `data` made of it."""
    path = tmp_path_factory.mktemp("screen")
    screens.cell_painting(path / "wells.csv")
    main([str(path / "wells.csv"), f"--out={path / 'data'}", "--preset=pycytominer"])
    return path


def test_a_folder_that_is_not_empty(folder):
    before = {path.name: path.read_bytes() for path in (folder / "data").iterdir()}
    with pytest.raises(UserError, match="expected a new or an empty folder, found a folder with"):
        main([str(folder / "wells.csv"), f"--out={folder / 'data'}", "--preset=pycytominer"])
    with pytest.raises(UserError, match="expected a new or an empty folder, found a file"):
        main([str(folder / "wells.csv"), f"--out={folder / 'wells.csv'}", "--preset=pycytominer"])
    assert {path.name: path.read_bytes() for path in (folder / "data").iterdir()} == before


def test_nothing_is_half_written(folder, tmp_path, monkeypatch):
    def full(*arguments):
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(page, "write", full)
    (tmp_path / "data").mkdir()  # an empty folder may be there
    with pytest.raises(UserError, match="data: cannot be written: No space left on device"):
        main([str(folder / "wells.csv"), f"--out={tmp_path / 'data'}", "--preset=pycytominer"])
    assert list(tmp_path.rglob("*")) == [tmp_path / "data"]


def test_what_a_killed_preparation_left_is_removed(folder, tmp_path):
    left, other, foreign = (tmp_path / f".data.tmp-{name}" for name in ("7", "8", "x"))
    for path in (left, other, foreign):
        path.mkdir()
        (path / lock.NAME).touch()
    (left / "train_features.csv").write_text("half")
    held = lock.hold(other)  # of a preparation that goes on
    main([str(folder / "wells.csv"), f"--out={tmp_path / 'data'}", "--preset=pycytominer"])
    held.close()
    assert {path.name for path in tmp_path.iterdir()} == {"data", other.name, foreign.name}
    names = {path.name for path in (folder / "data").iterdir()}
    assert {path.name for path in (tmp_path / "data").iterdir()} == names


@pytest.mark.parametrize(
    ("flags", "predicted", "told"),
    [
        ([], "compounds", "0 of 10 wells to predict are of compounds that have"),
        (["--split_column=set"], "wells", "20 of 30 wells to predict are of compounds that have"),
        (["--split_column=set", "--predict=compounds"], "compounds", "as --predict=compounds says"),
    ],
)
def test_the_rows_to_predict_decide_the_folds(folder, tmp_path, flags, predicted, told):
    table = pd.read_csv(folder / "wells.csv")
    table["set"] = np.where(table["Metadata_Plate"] == "P2", "test", "train")
    table.to_csv(tmp_path / "wells.csv", index=False)
    out = tmp_path / "data"
    main([str(tmp_path / "wells.csv"), f"--out={out}", "--preset=pycytominer", *flags])
    text = " ".join(Page((out / "data.html").read_text()).text.split())
    assert told in text
    models = {
        "logistic": {"recipe": "baseline"},
        "chosen": {"recipe": "baseline", "split": "group"},
    }
    config = parse({"models": models, "data": {"folder": str(out)}}, RECIPES)
    found = prepared.applied(config, {})
    assert found.data.predict == predicted
    split = {"wells": "stratified", "compounds": "compound"}[predicted]
    assert [model.split for model in found.models.values()] == [split, "group"]
    kept = prepared.applied(config, {"data.predict"})
    assert kept.data.predict == "auto" and kept.models == config.models
    honest = prepared.applied(dataclasses.replace(config, honest=True), {})
    assert honest.data.predict == "auto"


def test_what_is_to_be_predicted_is_said_or_not_known(folder, tmp_path):
    wells, out = str(folder / "wells.csv"), f"--out={tmp_path / 'data'}"
    preset = ["--preset=pycytominer", "--compound="]
    with pytest.raises(
        UserError, match="--predict: expected one of compounds, wells, found 'well'"
    ):
        main([wells, out, *preset, "--predict=well"])
    with pytest.raises(UserError, match="--predict=compounds: expected a column of compounds"):
        main([wells, out, *preset, "--predict=compounds"])
    main([wells, out, *preset, "--min_compounds=1"])
    assert "predict" not in prepared.read(tmp_path / "data")["config"]["data"]


def test_the_page(folder):
    text = (folder / "data" / "data.html").read_text()
    found = Page(text)
    assert "http" not in text and "<script" not in text
    labels, sizes, features, plates = found.tables
    assert ["kinase inhibitor", "3", "15", "yes"] in labels
    assert ["agonist", "5", "25", "yes"] in labels  # alone and beside a second one
    assert ["Cells", "2"] in features and ["cell count", "1"] in features
    assert plates[1][:3] == ["P1", "25", "5"]
    assert "Metadata_timepoint" in found.text and "24, 48" in found.text


def test_what_a_screen_gives_away(tmp_path):
    table = screens.cell_painting(tmp_path / "wells.csv")
    # Every plate holds the wells of one label, one compound has two, and a row stands twice.
    moas = {"kinase inhibitor": "P1", "agonist|channel blocker": "P2", "agonist": "P3"}
    table["Metadata_Plate"] = table["Metadata_moa"].map(moas).fillna("P4")
    table["Metadata_Well"] = [f"B{row}" for row in range(len(table))]
    first = table.index[table["Metadata_moa"] == "kinase inhibitor"][0]
    table.loc[first, "Metadata_moa"] = "agonist"
    table.loc[1, screens.FEATURES + ["Metadata_Object_Count"]] = table.loc[
        0, screens.FEATURES + ["Metadata_Object_Count"]
    ]
    table.loc[2, "Metadata_moa"] = None  # its compound has annotated wells
    table["Cells_answer"] = table["Metadata_moa"].eq("kinase inhibitor") * 7
    table.to_csv(tmp_path / "wells.csv", index=False)
    main([str(tmp_path / "wells.csv"), f"--out={tmp_path / 'data'}", "--preset=pycytominer"])
    text = Page((tmp_path / "data" / "data.html").read_text()).text
    assert "Plates with one label only: 1, such as P3 (agonist)." in text
    assert "Labels on one plate only: 2, such as channel blocker, kinase inhibitor." in text
    assert "Compounds whose wells have different labels: 1, such as BRD-00." in text
    assert "that have training wells too: 1, such as BRD-02." in text
    assert "Rows that repeat the numbers of an earlier one: 1." in text
    assert "that are an answer, from which nothing is learned" in text
    assert "1, such as Cells_answer. Leave them out by --features." in text


def test_new_rows_of_the_raw_table(folder, tmp_path):
    raw = pd.read_csv(folder / "wells.csv")
    raw["Metadata_new"] = "more"
    raw = raw.drop(columns=["Metadata_moa", "Metadata_broad_sample"])[sorted(raw.columns.drop(
        ["Metadata_moa", "Metadata_broad_sample"]))]  # fmt: skip
    raw["Metadata_mmoles_per_liter"] = raw["Metadata_mmoles_per_liter"].fillna(10)
    raw.loc[0, "Cells_A"] = None
    raw.to_csv(tmp_path / "new.csv", index=False)
    main([str(tmp_path / "new.csv"), f"--like={folder / 'data'}", f"--out={tmp_path / 'out.csv'}"])
    written = pd.read_csv(tmp_path / "out.csv")
    trained = pd.concat(
        pd.read_csv(folder / "data" / f"{stem}_features.csv") for stem in ("train", "test")
    )
    assert list(written.columns) == list(trained.columns)
    assert list(written["sig_id"]) == list(raw["Metadata_Plate"] + "_" + raw["Metadata_Well"])
    assert set(written["cp_type"]) == {"trt_cp"}
    described = prepared.read(folder / "data")
    # Older versions of pandas read a number's last bit wrong.
    median = described["missing"]["values"]["Cells_A"]
    assert written.loc[0, "Cells_A"] == pytest.approx(median, rel=1e-15)
    both = written[1:].merge(trained, on="sig_id", suffixes=("", "_trained"))
    for name in screens.FEATURES:
        np.testing.assert_array_equal(both[name], both[f"{name}_trained"])


def test_new_rows_keep_their_compounds(folder, tmp_path, monkeypatch):
    """In the file that is written, for inference and as the rows to predict of a folder."""
    raw = pd.read_csv(folder / "wells.csv").sample(frac=1, random_state=0)[:40]
    raw["Metadata_broad_sample"] = raw["Metadata_broad_sample"].where(np.arange(40) != 3)
    raw.to_csv(tmp_path / "new.csv", index=False)
    main([str(tmp_path / "new.csv"), f"--like={folder / 'data'}", f"--out={tmp_path / 'out.csv'}"])
    ids = raw["Metadata_Plate"] + "_" + raw["Metadata_Well"]
    expected = raw["Metadata_broad_sample"].fillna("unknown_" + ids).tolist()
    described = prepared.read(folder / "data")
    shutil.copytree(folder / "data", tmp_path / "data")
    for path in (tmp_path / "data").glob("test_*"):
        path.unlink()
    (tmp_path / "data" / "test_features.csv").write_bytes((tmp_path / "out.csv").read_bytes())
    monkeypatch.setattr(tables, "stream", functools.partial(tables.stream, rows=16))
    trained = load(tmp_path / "data")
    assert trained.test.drug_id.tolist() == expected
    with new_rows.in_layout(tmp_path / "out.csv", described) as file:
        assert file == tmp_path / "out.csv"
        config = prepared.applied(RunConfig({}, data=DataConfig(folder=str(tmp_path / "data"))), {})
        parts = tables.stream(
            file, trained.genes, trained.cells, Levels.of(config.data),
            prefixes=Prefixes.of(config.data), treatment=trained.treatment,
        )  # fmt: skip
        assert [drug for rows in parts for drug in rows.drug_id] == expected


def test_new_rows_that_lack_many_numbers_are_told(folder, tmp_path, caplog):
    raw = pd.read_csv(folder / "wells.csv")
    raw.loc[:6, "Cells_A"] = None
    raw.loc[:5, "Cells_B"] = None
    raw.to_csv(tmp_path / "new.csv", index=False)
    main([str(tmp_path / "new.csv"), f"--like={folder / 'data'}", f"--out={tmp_path / 'out.csv'}"])
    assert "1 columns lack numbers in more than 10 % of the rows, such as Cells_A in 7 of 60" in (
        caplog.text
    )


@pytest.mark.parametrize("version", [".3", "", ".2"])
def test_genes_are_one_in_all_versions_of_their_ids(tmp_path, caplog, version):
    """Unless new rows have several of one gene."""
    genes = ["ENSG00000141510.17", "ENSMUSG00000059552.4", "c-Fos"]
    table = pd.DataFrame(np.arange(36).reshape(12, 3) + 0.5, columns=genes)
    about = {"name": [f"w{row}" for row in range(12)], "class": ["x", "y"] * 6}
    table.assign(**about).to_csv(tmp_path / "wells.csv", index=False)
    flags = ["--id=name", "--features=ENS|Fos", "--labels=class", "--min_compounds=1"]
    main([str(tmp_path / "wells.csv"), f"--out={tmp_path / 'data'}", *flags])
    others = [f"ENSG00000141510{version}", "ENSMUSG00000059552.4", "c-Fos"]
    new = table.set_axis(others, axis=1).assign(**about)
    if version == ".2":
        new["ENSG00000141510.1"] = 0
    new.to_csv(tmp_path / "new.csv", index=False)
    flags = [
        str(tmp_path / "new.csv"),
        f"--like={tmp_path / 'data'}",
        f"--out={tmp_path / 'o.csv'}",
    ]
    if version == ".2":
        message = r"a column ENSG00000141510.17, found none; .*; did you mean ENSG00000141510.1\?"
        with pytest.raises(UserError, match=message):
            main(flags)
        return
    main(flags)
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "o.csv")[genes], table)
    assert (
        f"1 genes have another version of their Ensembl id, such as {others[0]} for" in caplog.text
    )


def test_new_rows_find_controls_and_compounds_where_training_rows_did(tmp_path, caplog):
    """In the files beside them; where these are gone or tell nothing, all rows are treated."""
    table = screens.cell_painting(tmp_path / "wells.csv")
    about = ["Metadata_moa", "Metadata_broad_sample"]
    places = ["Metadata_Plate", "Metadata_Well"]
    table[places + about].to_csv(tmp_path / "map.csv", index=False)
    table = table.drop(columns=about)
    table.to_csv(tmp_path / "wells.csv", index=False)
    flags = ["--preset=pycytominer", f"--metadata={tmp_path / 'map.csv'}", "--dose=", "--time="]
    main([str(tmp_path / "wells.csv"), f"--out={tmp_path / 'data'}", *flags])
    out = tmp_path / "out.csv"
    like = [str(tmp_path / "wells.csv"), f"--like={tmp_path / 'data'}", f"--out={out}"]
    main(like)
    written = pd.read_csv(out)
    is_control = np.arange(len(table)) % 6 == 5
    assert (written["cp_type"] == "ctl_vehicle").tolist() == is_control.tolist()
    assert (written["drug_id"] == "DMSO").tolist() == is_control.tolist()
    (tmp_path / "map.csv").unlink()
    main(like)
    assert (pd.read_csv(out)["cp_type"] == "trt_cp").all()
    assert "map.csv: expected a file, found none" in caplog.text


def test_names_of_rows_are_ids_in_any_format(tmp_path):
    pytest.importorskip("anndata")
    screens.h5ad(tmp_path / "wells.h5ad")
    about, values = screens.connectivity_map()
    main([str(tmp_path / "wells.h5ad"), f"--out={tmp_path / 'data'}", "--preset=cmap", "--id="
          "obs_names", "--dose=", "--time="])  # fmt: skip
    pd.DataFrame(values, about.index, screens.SYMBOLS).to_csv(tmp_path / "new.csv")
    main([str(tmp_path / "new.csv"), f"--like={tmp_path / 'data'}", f"--out={tmp_path / 'o.csv'}"])
    assert pd.read_csv(tmp_path / "o.csv")["sig_id"].tolist() == list(about.index)


def test_new_rows_do_not_take_the_place_of_training_rows(folder):
    before = (folder / "data" / "train_features.csv").read_bytes()
    for out in ("train_features.csv", "../data/train_drug.csv"):
        with pytest.raises(UserError, match="expected another file than one of --like, which"):
            main([str(folder / "wells.csv"), f"--like={folder / 'data'}",
                  f"--out={folder / 'data' / out}"])  # fmt: skip
    assert (folder / "data" / "train_features.csv").read_bytes() == before


def test_new_rows_do_not_take_the_place_of_their_table(folder, tmp_path):
    (tmp_path / "new.csv").write_bytes((folder / "wells.csv").read_bytes())
    with pytest.raises(UserError, match="--out: .*expected another file than the table"):
        main([str(tmp_path / "new.csv"), f"--like={folder / 'data'}",
              f"--out={tmp_path / 'new.csv'}"])  # fmt: skip
    assert (tmp_path / "new.csv").read_bytes() == (folder / "wells.csv").read_bytes()


def test_new_rows_in_the_layout_are_taken_as_they_are(folder):
    described = prepared.read(folder / "data")
    inside = folder / "data" / "test_features.csv"
    with new_rows.in_layout(inside, described) as file:
        assert file == inside
    with new_rows.in_layout(folder / "wells.csv", None) as file:
        assert file == folder / "wells.csv"
    with new_rows.in_layout(folder / "wells.csv", described) as file:
        raw = pd.read_csv(folder / "wells.csv")
        assert pd.read_parquet(file)["drug_id"].tolist() == raw["Metadata_broad_sample"].tolist()
        assert pd.read_parquet(file).shape[0] == screens.WELLS
    assert not file.exists()


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("Nuclei_A", None, "expected a column Nuclei_A, found none; the models were trained with"),
        ("Metadata_Well", None, "expected a column Metadata_Well, found none"),
        (
            "Metadata_mmoles_per_liter",
            "",
            "Metadata_mmoles_per_liter, row 1: expected a dose, found",
        ),
        ("Cells_A", "1,5", "column Cells_A, row 1: expected a number, found '1,5'; decimals are"),
    ],
)
def test_new_rows_that_lack_something(folder, tmp_path, column, value, message):
    raw = pd.read_csv(folder / "wells.csv", dtype=str)
    if value is None:
        raw = raw.drop(columns=column)
    else:
        raw.loc[0, column] = value
    raw.to_csv(tmp_path / "new.csv", index=False)
    with pytest.raises(UserError) as error:
        main([str(tmp_path / "new.csv"), f"--like={folder / 'data'}",
              f"--out={tmp_path / 'out.csv'}"])  # fmt: skip
    assert message in str(error.value)
    assert [path.name for path in tmp_path.iterdir()] == ["new.csv"]


def test_what_is_wrong_with_new_rows_is_told_of_their_table(folder, tmp_path):
    """Also what only the models find, in the rows that were made of it."""
    table = tmp_path / "new.v1.csv"
    table.write_bytes((folder / "wells.csv").read_bytes())
    with pytest.raises(UserError, match=f"^{table}: column c$"):
        with new_rows.in_layout(table, prepared.read(folder / "data")) as made:
            raise UserError(f"{made}: column c")


@pytest.mark.parametrize("name", ["columns.json", "nowhere"])
def test_a_record_that_cannot_be_read(tmp_path, name):
    (tmp_path / "columns.json").symlink_to(name)
    with pytest.raises(UserError, match="columns.json: expected a file, found a symbolic link"):
        prepared.read(tmp_path)


@pytest.mark.parametrize(
    ("name", "found"),
    [("x" * 300, r"none \(File name too long\)"), ("wells.csv", "a file"), ("link", "a link")],
)
def test_where_no_folder_can_be_written(folder, tmp_path, name, found):
    out = folder / name if name == "wells.csv" else tmp_path / name
    if name == "link":
        out.symlink_to(tmp_path)
    with pytest.raises(UserError, match=f"--out: .*: expected a new or an empty .*{found}$"):
        main([str(folder / "wells.csv"), f"--out={out}", "--preset=pycytominer"])


def test_folders_that_are_not_meant(folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for table, out, message in (
        (folder / "wells.csv", "~/data", r"--out: ~/data: .* write \$HOME, or ./~ for a folder"),
        (folder / "wells.csv", ".", "expected a new or an empty folder, found the one that you"),
        (
            folder / "wells\udcff.csv",
            "data",
            r"wells.udcff.csv': expected UTF-8, found",
        ),
        ("~/wells.csv", "data", r"~/wells.csv: expected a file, found none; write \$HOME"),
    ):
        with pytest.raises(UserError, match=message):
            main([str(table), f"--out={out}", "--preset=pycytominer"])
    assert not list(tmp_path.iterdir())


def test_the_run_takes_what_the_folder_says(folder):
    def taken(given=(), **fields):
        config = RunConfig({}, data=DataConfig(folder=str(folder / "data"), **fields))
        return prepared.applied(config, given).data

    data = taken()
    assert data.gene_prefixes == ("Cells_", "Cytoplasm_", "Nuclei_")
    assert data.cell_prefixes == ("Metadata_Object_Count",)
    assert data.cp_times == (24, 48) and data.cp_doses == ("0.37", "10.0")
    assert taken(cp_times=(24, 48, 96)).cp_times == (24, 48, 96)
    assert taken(["data.cp_times"]).cp_times == (24, 48, 72)
    assert load(folder / "data").description()["prepared"]["table"] == "wells.csv"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"version": 2}, "expected format version 1, found 2; prepare the table again"),
        ({"config": {"data": {"seed": 1}}}, "damaged, expected config.data of"),
        ({"config": {"data": {"cp_times": "x"}}}, "config.data.cp_times: expected"),
        ({"features": None}, "damaged, expected features"),
        (
            {"features": {"Cells": ["Cells_A", "Cells_X"]}},
            "otherwise: KeyError: 'Cells_X'",
        ),
        ({"treatment": {"cp_dose": {"levels": []}}}, "laid out otherwise: IndexError"),
        ({"roles": {}}, "laid out otherwise: KeyError: 'id'"),
        ({"metadata": None}, "laid out otherwise: TypeError"),
    ],
)
def test_a_damaged_record(folder, tmp_path, change, message):
    described = prepared.read(folder / "data") | change
    (tmp_path / "columns.json").write_text(json.dumps(described))
    with pytest.raises(UserError) as error:
        prepared.applied(RunConfig({}, data=DataConfig(folder=str(tmp_path))), ())
    assert message in str(error.value)
