"""A run and its inference on tables that are not the competition's, from one format to another."""

import dataclasses
import shutil

import numpy as np
import pandas as pd
import pytest
from data_folders import frames, write

from moa_jax.command import inference
from moa_jax.config import DataConfig, RunConfig
from moa_jax.data.dataset import ORIGINAL_LEVELS, Dataset
from moa_jax.engine import loading, run
from moa_jax.errors import UserError
from moa_jax.recipes import fitting, simple_nn, system
from moa_jax.recipes.context import Context
from moa_jax.store import files
from moa_jax.store.predictions import Predictions
from moa_jax.store.workdir import Workdir
from moa_jax.training.parallel import Devices

TINY = simple_nn.Config(
    seeds=(0,), folds=2, gene_factors=2, cell_factors=2, gene_clusters=0, cell_clusters=0,
    hidden=4, epochs=1, batch_size=32,
)  # fmt: skip


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Rows of numeric doses and fractions of an hour without types, trained on and predicted.

    No training row has the last time, which some new rows have.
    """
    content, folder = frames(rows=24, test_rows=6), tmp_path_factory.mktemp("run")
    for stem in ("train_features", "test_features"):
        table = content[stem].drop(columns="cp_type").rename(columns={"c-0": "Metadata_Plate"})
        table["cp_dose"] = table["cp_dose"].map({"D1": 0.04, "D2": 10.0})
        table["cp_time"] = table["cp_time"].map({24: 0.5, 48: 24, 72: 48})
        if stem == "train_features":
            table["cp_time"] = table["cp_time"].clip(upper=24)
        content[stem] = table.assign(Metadata_Plate="P1")
    content["train_targets_scored"]["one"] = np.arange(24) % 2
    write(folder / "data", content)
    content["test_features"].to_parquet(folder / "new.parquet", index=False)
    data = DataConfig(
        folder=str(folder / "data"),
        test_features=str(folder / "new.parquet"),
        cp_doses=("0.04", "10"),
        cp_times=(0.5, 24, 48),
        ignore=("Metadata_",),
    )
    config = RunConfig({"tiny": TINY}, data=data)
    workdir = Workdir(folder / "run")
    run.train(config, workdir, loading.load_data(config))
    return config, workdir


def test_a_run_on_csv_predicts_parquet(trained):
    config, workdir = trained
    folder = inference.infer(config, workdir).parent
    test = Predictions.read(workdir.path / "tiny" / "test.parquet")
    new = Predictions.read(folder / "tiny.parquet")
    assert test.ids.tolist() == new.ids.tolist()
    np.testing.assert_array_equal(test.values, new.values)
    assert (new.values > 0).all()  # without types there is no control
    stored = workdir.read()
    assert stored["data"]["columns"]["treatment"] == ["cp_time", "cp_dose"]
    assert stored["fields"]["data.cp_times"] == [0.5, 24, 48]


def test_stages_of_all_models_share_the_memory(trained, monkeypatch):
    config, workdir = trained
    shares, predictor = [], fitting.Predictor
    monkeypatch.setattr(
        fitting, "Predictor", lambda *a, share: shares.append(share) or predictor(*a, share=share)
    )
    context = Context("tiny", workdir, Devices.available("vmap"), config)
    for beside in ((), (5,)):
        system.load(TINY, context, ("one", "two, with comma"), *beside)
    assert shares == [1, 1 / 5]


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"cp_doses": ("10", "0.04")}, r"data.cp_doses: \['0.04', '10'\] there, \['10', '0.04'\] "),
        ({"cp_doses": ("0.04", "10", "20")}, "found others: data.cp_doses: "),
        ({"cp_times": (24, 48)}, r"data.cp_times: \[0.5, 24, 48\] there, \[24, 48\] now"),
        ({"control_type": "DMSO"}, "data.control_type: ctl_vehicle there, DMSO now"),
        ({"gene_prefixes": ("g-", "h-")}, "data.gene_prefixes: "),
        ({"ignore": ()}, "data.ignore: "),
    ],
)
def test_how_new_rows_are_read_is_the_work_folders(trained, changed, message):
    config, workdir = trained
    other = dataclasses.replace(config, data=dataclasses.replace(config.data, **changed))
    with pytest.raises(UserError, match=f"run: expected the fields that .*{message}"):
        inference.infer(other, workdir)


def test_other_fields_that_change_numbers_are_named(trained):
    config, workdir = trained
    model = dataclasses.replace(TINY, hidden=8)
    other = dataclasses.replace(config, seed=1, models={"tiny": model})
    with pytest.raises(UserError, match="models.tiny.hidden: 4 there, 8 now; seed: 0 there, 1 now"):
        inference.infer(other, workdir)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"cp_dose": "20"}, "expected one of 0.04, 10, found '20'; the models know no others"),
        ({"site": 1}, "column site is not expected; the models were trained without it, take it "),
        ({"g-9": 1}, "column g-9 is not expected; the models were trained without it, take it out"),
        ({"g-0": "NA"}, "found 'NA'; a missing value: fill it in, or leave the row out"),
    ],
)
def test_no_remedy_is_one_that_inference_refuses(trained, tmp_path, changed, message):
    config, workdir = trained
    table = frames()["test_features"].drop(columns=["c-0", "cp_type"])
    table = table.assign(**{"cp_dose": "10", "cp_time": 24, **changed})
    table.to_csv(tmp_path / "new.csv", index=False)
    data = dataclasses.replace(config.data, test_features=str(tmp_path / "new.csv"))
    with pytest.raises(UserError, match=message) as caught:
        inference.infer(dataclasses.replace(config, data=data), workdir)
    assert "config.data" not in str(caught.value)


def test_a_level_that_no_training_row_had_a_column_for(trained, tmp_path):
    config, workdir = trained
    table = frames()["test_features"].drop(columns="c-0").assign(cp_dose="10", cp_time=24)
    table.drop(columns="cp_dose").to_csv(tmp_path / "new.csv", index=False)
    data = dataclasses.replace(config.data, test_features=str(tmp_path / "new.csv"))
    with pytest.raises(UserError, match="new.csv: expected a column cp_dose, found none, while"):
        inference.infer(dataclasses.replace(config, data=data), workdir)


def test_rows_of_a_level_that_no_training_row_has_are_predicted_at_the_nearest(trained, tmp_path):
    config, workdir = trained
    stored = workdir.read()
    assert stored["data"]["levels"] == {"cp_time": [0.5, 24], "cp_dose": ["0.04", "10"]}
    shutil.copytree(workdir.path, tmp_path / "run")
    stored["data"]["levels"] = {"cp_time": [24], "cp_dose": ["10"]}
    files.write_sealed(tmp_path / "run" / "config.json", stored)
    new = pd.read_parquet(config.data.test_features)
    new.assign(cp_time=24.0, cp_dose=10.0).to_parquet(tmp_path / "known.parquet", index=False)
    found = []
    for file in (config.data.test_features, tmp_path / "known.parquet"):
        data = dataclasses.replace(config.data, test_features=str(file))
        made = inference.infer(dataclasses.replace(config, data=data), Workdir(tmp_path / "run"))
        found.append(made.read_bytes())
    assert found[0] == found[1]


def test_test_rows_are_predicted_at_the_levels_of_training_rows(caplog):
    times, doses = np.array([24, 72, 48, 24]), np.array(["D1", "D2", "D2", "D1"], object)
    ids = np.array([f"id{n}" for n in range(4)], object)
    rows = Dataset(ids, ("g-0",), (), np.zeros((4, 1)), times, doses, np.zeros(4, bool))
    found = rows.at_trained_levels(ORIGINAL_LEVELS, {"cp_time": [24, 48], "cp_dose": ["D1", "D2"]})
    assert found.cp_time.tolist() == [24, 48, 48, 24] and found.cp_time.dtype == times.dtype
    assert found.cp_dose is doses
    assert "cp_time: no training row has 72; its rows are predicted as those of 48" in caplog.text
    control = dataclasses.replace(rows, is_control=np.array([False, False, True, False]))
    assert control.trained_levels() == {"cp_time": [24, 72], "cp_dose": ["D1", "D2"]}
