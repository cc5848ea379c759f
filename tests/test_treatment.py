"""Tests of how networks read times and doses: one-hot, as numbers, or not at all."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
import systems

from moa_jax import config as configuration
from moa_jax.command import inference
from moa_jax.config import LEVELS_OF_FILES, DataConfig, RunConfig, TreatmentConfig
from moa_jax.data import simulate, tables
from moa_jax.data.dataset import ORIGINAL_LEVELS, Levels
from moa_jax.engine import loading, run
from moa_jax.errors import UserError
from moa_jax.features.log10 import log10_column
from moa_jax.recipes import RECIPES, profile
from moa_jax.store.workdir import Workdir

DOSES = ("0.1", "1", "10")
LEVELS = Levels((6, 24), DOSES, "trt_cp", "ctl_vehicle", encoding="log10")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Wells at three doses and two times, which tell their one mechanism more or less."""
    path = tmp_path_factory.mktemp("data")
    simulate.write(path, rows=70, seed=1, genes=6, cells=0, scored=2, nonscored=0, test_rows=8)
    for stem in ("train_features", "test_features"):
        table = pd.read_csv(path / f"{stem}.csv", dtype={"cp_dose": str})
        count = np.arange(len(table))
        table["cp_dose"] = np.array(DOSES, object)[count % 3]
        table["cp_time"] = np.where(count % 2, 24, 6)
        table.to_csv(path / f"{stem}.csv", index=False)
    table = pd.read_csv(path / "train_features.csv")
    labels = pd.read_csv(path / "train_targets_scored.csv")
    treated = table["cp_type"] == "trt_cp"
    for number, name in enumerate(labels.columns[1:]):
        labels[name] = ((table["cp_dose"] > number) & treated).astype(int)
    labels.to_csv(path / "train_targets_scored.csv", index=False)
    return path


def config_of(folder, encoding, *models):
    config = systems.tiny(*(models or ("profile_nn",)), parallel={"strategy": "vmap"})
    config = dataclasses.replace(
        config,
        data=DataConfig(folder=str(folder), **LEVELS_OF_FILES),
        treatment=TreatmentConfig(encoding),
    )
    model = dataclasses.replace(
        config.models["profile_nn"], members=2, inputs=("standard",), widths=(8,), depths=(1,),
        steps=(60, 60), epoch_steps=30,
    )  # fmt: skip
    return loading.settled(dataclasses.replace(config, models={"profile_nn": model}))


def changed(folder, path, **columns):
    table = pd.read_csv(folder / "test_features.csv", dtype=str)
    table.assign(**columns).to_csv(path, index=False)
    return path


def test_a_column_of_logarithms():
    levels = np.array([0.1, 1.0, 10.0])
    column = log10_column(np.array([0.1, 1.0, 10.0, 100.0, 0.0]), levels)[:, 0]
    assert column[:3].mean() == pytest.approx(0, abs=1e-15)
    assert column[:3].std() == pytest.approx(1, rel=1e-12)
    assert column[3] - column[2] == pytest.approx(column[2] - column[1], rel=1e-12)
    assert column[4] == pytest.approx((np.log10(0.05) - 0) / np.log10(levels).std())
    beside_zero = log10_column(np.array([0.0, 1.0, 3.0]), np.array([0.0, 1.0]))[:, 0]
    assert np.isfinite(beside_zero).all() and beside_zero[2] > beside_zero[1] > beside_zero[0]
    assert not log10_column(np.array([1.0, 5.0]), np.array([5.0])).any()


def test_what_each_encoding_makes_of_rows(folder):
    rows = tables.read_features(folder / "train_features.csv", LEVELS)
    time, dose = profile.treatment(rows, LEVELS)
    assert time.shape == dose.shape == (70, 1)
    order = {level: dose[rows.cp_dose == level].ravel() for level in DOSES}
    assert all(np.ptp(values) == 0 for values in order.values())
    assert order["0.1"][0] < order["1"][0] < order["10"][0]
    assert set(np.sign(time[rows.cp_time == 6].ravel())) == {-1}
    assert profile.treatment(rows, dataclasses.replace(LEVELS, encoding="none")) == []
    one_hot = profile.treatment(rows, dataclasses.replace(LEVELS, encoding="one_hot"))
    assert [columns.shape[1] for columns in one_hot] == [2, 3]


def read_new(path, levels):
    genes = tuple(f"g-{i}" for i in range(6))
    return next(tables.stream(path, genes, (), levels, treatment=("cp_type", "cp_time", "cp_dose")))


def test_new_levels_of_new_rows(folder, tmp_path):
    new = changed(folder, tmp_path / "new.csv", cp_dose="3", cp_time="7.5")
    rows = read_new(new, LEVELS)
    assert set(rows.cp_dose) == {"3"} and set(rows.cp_time) == {7.5}
    trained = {"cp_time": [6, 24], "cp_dose": list(DOSES)}
    assert set(rows.at_trained_levels(LEVELS, trained).cp_dose) == {"3"}
    rows = read_new(new, dataclasses.replace(LEVELS, encoding="none"))
    assert set(rows.cp_dose) == {"0.1"} and set(rows.cp_time) == {6.0}
    with pytest.raises(UserError, match="cp_time, sig_id .*expected one of 6, 24, found '7.5'"):
        read_new(new, dataclasses.replace(LEVELS, encoding="one_hot"))
    for dose in ("high", "-3"):
        new = changed(folder, tmp_path / "new.csv", cp_dose=dose)
        expected = f"one of 0.1, 1, 10 or another number that is not negative, found '{dose}'"
        with pytest.raises(UserError, match=expected):
            read_new(new, LEVELS)


def test_a_new_dose_is_predicted_as_a_number(folder, tmp_path):
    config, workdir = config_of(folder, "log10"), Workdir(tmp_path / "run")
    workdir.path.mkdir()
    run.train(config, workdir, loading.load_data(config))
    means = []
    for dose in ("0.1", "3", "10", "1000"):
        new = changed(folder, tmp_path / f"at_{dose}.csv", cp_dose=dose, cp_type="trt_cp")
        asked = dataclasses.replace(
            config, data=dataclasses.replace(config.data, test_features=str(new))
        )
        table = pd.read_csv(inference.infer(asked, workdir)).set_index("sig_id")
        means.append(table.to_numpy()[:, 1].mean())
    assert means[0] < means[1] < means[2] < means[3]
    stored = workdir.read()
    assert stored["fields"]["treatment.encoding"] == "log10"
    other = dataclasses.replace(config, treatment=TreatmentConfig())
    with pytest.raises(UserError, match="treatment.encoding: log10 there, absent now"):
        workdir.check(other)


def test_levels_that_are_no_numbers(folder):
    config = config_of(folder, "log10")
    data = loading.load_data(config)
    data = dataclasses.replace(data, cp_dose=np.where(data.cp_dose == "10", "10 uM", data.cp_dose))
    with pytest.raises(UserError, match="log10: column cp_dose: expected numbers .* '10 uM'"):
        run.check(config, data)


@pytest.mark.parametrize("encoding", ["log10", "none"])
def test_recipes_that_fix_their_inputs_take_no_other(encoding):
    values = configuration.plain(systems.tiny("profile_nn", "simple_nn_old"))
    values["treatment"] = {"encoding": encoding}
    with pytest.raises(UserError) as error:
        configuration.parse(values, RECIPES)
    line = "config.treatment.encoding: expected one_hot with config.models.simple_nn_old, whose "
    assert str(error.value).startswith(line)
    taking = [name for name, recipe in RECIPES.items() if recipe.encodes_treatment]
    assert "profile_nn" in taking and "three_stage_nn" not in taking


def test_a_run_that_chose_nothing_is_the_run_it_was():
    fields = configuration.effective(RunConfig({}))
    assert "treatment.encoding" not in fields
    assert ORIGINAL_LEVELS.encoding == "one_hot"
