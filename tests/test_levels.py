"""Tests of levels of the treatment that a configuration leaves to the data."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
from data_folders import frames, write

from moa_jax.command import inference
from moa_jax.config import LEVELS_OF_FILES, DataConfig, RunConfig
from moa_jax.data import prepared
from moa_jax.data.dataset import Levels
from moa_jax.data.levels import settled
from moa_jax.engine import loading
from moa_jax.errors import UserError
from moa_jax.store.workdir import Workdir

FREE = DataConfig(**LEVELS_OF_FILES)
DOSES = ("0.1", "1", "10 uM")


def folder(path, change=lambda table: table, suffix=".csv"):
    """Writes a data folder whose features tables are changed."""
    content = frames(rows=12, test_rows=6)
    for stem in ("train_features", "test_features"):
        table = content[stem]
        count = np.arange(len(table))
        table["cp_time"] = np.where(count % 2, 24, 6)
        table["cp_dose"] = np.array(DOSES, object)[count % 3]
        content[stem] = change(table)
    write(path, content, suffix)
    return path


def types(*names):
    """Gives controls the last of some names, and the others in turn to treated rows."""

    def change(table):
        is_control = table["cp_type"] == "ctl_vehicle"
        treated = np.array(names[:-1], object)[np.arange(len(table)) % (len(names) - 1)]
        return table.assign(cp_type=np.where(is_control, names[-1], treated))

    return change


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_levels_are_those_of_the_files(tmp_path, suffix):
    path = folder(tmp_path / "data", types("compound", "DMSO"), suffix)
    data = settled(dataclasses.replace(FREE, folder=str(path)), path)
    assert data.cp_times == (6, 24) and data.cp_doses == DOSES
    assert (data.treated_type, data.control_type, data.other_types) == ("compound", "DMSO", ())
    dataset = loading.load_data(RunConfig({}, data=data))
    assert dataset.is_control.sum() == 2 and dataset.test.is_control.sum() == 1
    assert set(dataset.cp_dose) == set(DOSES) and dataset.cp_time.dtype == np.int64
    # Fields that name levels hold, and an unknown level is an error as ever.
    named = settled(dataclasses.replace(data, cp_doses=(), cp_times=(24, 48)), path)
    assert named.cp_times == (24, 48) and named.cp_doses == DOSES
    with pytest.raises(UserError, match="column cp_time, sig_id 0000: expected one of 24, 48"):
        loading.load_data(RunConfig({}, data=named))


def test_numbers_are_ordered_by_number_and_texts_by_text(tmp_path):
    doses = ["high", "10", "0.5", "2.0", "2", "low"]

    def change(table):
        return table.assign(cp_dose=np.array(doses, object)[np.arange(len(table)) % 6])

    data = settled(FREE, folder(tmp_path, change))
    assert data.cp_doses == ("0.5", "2.0", "10", "high", "low")


def test_test_rows_have_levels_too(tmp_path):
    path = folder(tmp_path)
    table = pd.read_csv(path / "test_features.csv").assign(cp_time=96.5)
    table.to_csv(path / "test_features.csv", index=False)
    assert settled(FREE, path).cp_times == (6, 24, 96.5)


@pytest.mark.parametrize(
    ("names", "control", "treated", "others"),
    [
        (("compound", "drug", "vehicle"), "vehicle", "compound", ("drug",)),
        (("trt_cp", "Ctl Vehicle"), "Ctl Vehicle", "trt_cp", ()),
        (("trt_sh", "Non-targeting"), "Non-targeting", "trt_sh", ()),
        (("NTC", "trt_sh", "DMSO"), "DMSO", "NTC", ("trt_sh",)),
        (("compound", "other"), None, "compound", ("other",)),
        (("control", "compound", "DMSO"), None, "DMSO", ("compound", "control")),
        (("DMSO", "DMSO"), None, "DMSO", ()),
        (("trt_cp", "trt_cp"), None, "trt_cp", ()),
    ],
)
def test_the_control_is_the_type_that_is_called_so(tmp_path, names, control, treated, others):
    path = folder(tmp_path, types(*names))
    data = settled(FREE, path)
    assert (data.treated_type, data.other_types) == (treated, others)
    dataset = loading.load_data(RunConfig({}, data=dataclasses.replace(data, folder=str(path))))
    if control is None:
        assert data.control_type not in names and not dataset.is_control.any()
    else:
        assert data.control_type == control and dataset.is_control.sum() == 2


@pytest.mark.parametrize(
    ("names", "shown"),
    [(("0", "1"), r"\['0', '1'\]"), (("1", "2", "0"), r"\['0', '1', '2'\]"),
     (("True", "False"), r"\['False', 'True'\]")],
)  # fmt: skip
def test_of_numbers_and_truth_none_is_a_control_unless_it_is_said(tmp_path, names, shown):
    path = folder(tmp_path, types(*names))
    with pytest.raises(UserError, match=f"cp_type: expected names .* found {shown}: set config"):
        settled(FREE, path)
    with pytest.raises(UserError, match="cp_type: expected names"):
        settled(dataclasses.replace(FREE, treated_type=names[0]), path)
    for control, count in ((names[-1], 2), ("DMSO", 0)):
        said = dataclasses.replace(FREE, folder=str(path), control_type=control)
        data = settled(said, path)
        assert data.control_type == control and data.treated_type in names
        assert loading.load_data(RunConfig({}, data=data)).is_control.sum() == count


def test_one_number_is_a_type_as_others_are(tmp_path):
    data = settled(FREE, folder(tmp_path, types("1", "1")))
    assert (data.treated_type, data.control_type) == ("1", "ctl_vehicle")


def test_types_none_of_which_is_a_control_are_told(tmp_path, caplog):
    with caplog.at_level("WARNING", logger="absl"):
        settled(FREE, folder(tmp_path, types("compound", "other")))
    assert "no control, for none of compound, other is called so: all rows" in caplog.text


def test_two_spellings_of_one_control(tmp_path):
    path = folder(tmp_path, types("DMSO", "trt_cp", "dmso"))
    with pytest.raises(UserError, match="column cp_type: .* found DMSO and dmso, which differ by"):
        settled(FREE, path)


def test_a_type_that_is_named_tells_the_other(tmp_path):
    path = folder(tmp_path, types("drug", "blank"))
    named = settled(dataclasses.replace(FREE, control_type="blank"), path)
    assert (named.treated_type, named.control_type) == ("drug", "blank")
    path = folder(tmp_path / "other", types("drug", "DMSO"))
    named = settled(dataclasses.replace(FREE, treated_type="drug"), path)
    assert (named.control_type, named.other_types) == ("DMSO", ())


def test_columns_that_are_left_out(tmp_path):
    path = folder(tmp_path, lambda t: t.drop(columns=["cp_type", "cp_time", "cp_dose"]))
    data = settled(FREE, path)
    expected = dataclasses.replace(DataConfig(), cp_times=(24,), cp_doses=("D1",))
    assert data == expected
    dataset = loading.load_data(RunConfig({}, data=dataclasses.replace(data, folder=str(path))))
    assert not dataset.is_control.any()


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("cp_time", "24h", "cp_time, sig_id 0002: expected hours as a number, found '24h'"),
        ("cp_dose", None, "cp_dose, sig_id 0002: expected one of 0.1, 1, 10 uM, found nothing"),
        ("cp_type", None, "cp_type, sig_id 0002: expected one of trt_cp, ctl_vehicle, found no"),
    ],
)
def test_what_is_no_level(tmp_path, column, value, message):
    def change(table):
        table = table.astype({column: object})
        table.loc[table["sig_id"] == "0002", column] = value
        return table

    path = folder(tmp_path, change)
    config = RunConfig({}, data=dataclasses.replace(FREE, folder=str(path)))
    with pytest.raises(UserError, match=message):
        loading.load_data(loading.settled(config))


def test_a_work_folder_keeps_what_was_found(tmp_path):
    path = folder(tmp_path / "data", types("a", "b", "DMSO"))
    config = loading.settled(RunConfig({}, data=dataclasses.replace(FREE, folder=str(path))))
    workdir = Workdir(tmp_path / "run")
    workdir.path.mkdir()
    workdir.bind(config, loading.load_data(config), "vmap")
    # Of the configuration's file nothing is known but that levels are those of files.
    found = inference.settled(RunConfig({}, data=FREE), workdir)
    assert dataclasses.replace(found.data, folder=str(path)) == config.data
    assert Levels.of(found.data).others == ("b",)
    workdir.check(found)
    with pytest.raises(ValueError, match="leave them to the files"):
        Levels.of(FREE)


def test_simulated_data_have_the_originals_levels():
    data = settled(dataclasses.replace(FREE, source="simulated"), "nowhere")
    assert data == DataConfig("simulated")


def test_what_a_prepared_folder_says_comes_before_its_files(tmp_path, monkeypatch):
    described = {"config": {"data": {"cp_times": [48, 72], "missing_targets": "mask"}}}
    monkeypatch.setattr(prepared, "read", lambda folder: described)
    config = RunConfig({}, data=dataclasses.replace(FREE, folder=str(tmp_path)))
    data = prepared.applied(config, ()).data
    assert data.cp_times == (48, 72) and not data.cp_doses and data.missing_targets == "mask"
    kept = prepared.applied(config, {"data.missing_targets"}).data
    assert kept.missing_targets == "error"
