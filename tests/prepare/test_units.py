"""Units of doses and times: numbers of one unit, also of new rows, and never those of another."""

import pandas as pd
import pytest
from prepare.test_formats import load

from moa_jax.data import prepared
from moa_jax.errors import UserError
from moa_jax.prepare.__main__ import main

ROWS = 8
FLAGS = ["--id=name", "--features=^f_", "--labels=class", "--dose=dose", "--time=age"]


def prepare(path, dose, age=(24,)):
    table = pd.DataFrame(
        {
            "name": [f"w{row}" for row in range(ROWS)],
            "f_1": [row % 5 for row in range(ROWS)],
            "class": [*"xy"] * (ROWS // 2),
            "dose": [*dose] * (ROWS // len(dose)),
            "age": [*age] * (ROWS // len(age)),
        }
    )
    table.to_csv(path / "wells.csv", index=False)
    main([str(path / "wells.csv"), f"--out={path / 'data'}", *FLAGS])
    return load(path / "data")


def new(path, dose, age=24):
    table = pd.read_csv(path / "wells.csv")[:1].assign(dose=dose, age=age)
    table.to_csv(path / "new.csv", index=False)
    main([str(path / "new.csv"), f"--like={path / 'data'}", f"--out={path / 'out.csv'}"])
    return pd.read_csv(path / "out.csv", dtype=str).loc[0, ["cp_dose", "cp_time"]].tolist()


def test_times_are_hours(tmp_path):
    found = prepare(tmp_path, [1], ["30 min", "2 days"])
    assert set(found.cp_time) == {0.5, 48}
    assert new(tmp_path, 1, "1 d") == ["1", "24"]
    with pytest.raises(UserError, match="expected hours as a number, found '3 m'"):
        new(tmp_path, 1, "3 m")


def test_doses_of_several_units_are_those_of_one(tmp_path):
    found = prepare(tmp_path, ["10 uM", "370 nM", "0.37 \u00b5M", "1mM"])
    assert set(found.cp_dose) == {"0.37", "10", "1000"}
    assert new(tmp_path, "370 nM") == ["0.37", "24"]
    with pytest.raises(UserError, match="row 1: expected a dose in um, .* found '10 mg/ml'"):
        new(tmp_path, "10 mg/ml")


def test_a_dose_without_a_unit_is_told(tmp_path, caplog):
    prepare(tmp_path, ["10 uM", "5 uM"])
    assert new(tmp_path, "5") == ["5", "24"]
    assert "doses without a unit are read as um, that of the training rows" in caplog.text


def test_a_unit_that_the_training_rows_lack(tmp_path):
    prepare(tmp_path, [10, 5])
    with pytest.raises(UserError, match="row 1: expected a dose without a unit, .* '10 uM'"):
        new(tmp_path, "10 uM")


def test_words_with_and_without_a_unit_stay_levels(tmp_path):
    prepare(tmp_path, ["10 uM", "low"])
    assert prepared.read(tmp_path / "data")["treatment"]["cp_dose"]["unit"] == ""
    assert new(tmp_path, "10 uM") == ["10 uM", "24"]
