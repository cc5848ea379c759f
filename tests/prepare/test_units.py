"""Units of doses and times: numbers of one unit, also of new rows, and never those of another."""

import json

import numpy as np
import pandas as pd
import pytest
from prepare.test_formats import load

from moa_jax.data import prepared
from moa_jax.errors import UserError
from moa_jax.prepare.__main__ import main

ROWS = 8
FLAGS = ["--id=name", "--features=^f_", "--labels=class", "--dose=dose", "--time=age"]


def prepare(path, dose, age=(24,), flags=(), **columns):
    table = pd.DataFrame(
        {
            "name": [f"w{row}" for row in range(ROWS)],
            "f_1": [row % 5 for row in range(ROWS)],
            "class": [*"xy"] * (ROWS // 2),
            "dose": [*dose] * (ROWS // len(dose)),
            "age": [*age] * (ROWS // len(age)),
            **columns,
        }
    )
    table.to_csv(path / "wells.csv", index=False)
    main([str(path / "wells.csv"), f"--out={path / 'data'}", *FLAGS, *flags])
    return load(path / "data")


def new(path, dose, age=24):
    doses = dose if isinstance(dose, list) else [dose]
    table = pd.read_csv(path / "wells.csv")[: len(doses)].assign(dose=doses, age=age)
    table.to_csv(path / "new.csv", index=False)
    main([str(path / "new.csv"), f"--like={path / 'data'}", f"--out={path / 'out.csv'}"])
    return pd.read_csv(path / "out.csv", dtype=str).loc[0, ["cp_dose", "cp_time"]].tolist()


def test_times_are_hours(tmp_path):
    found = prepare(tmp_path, [1], ["30 min", "2 days", "24 hrs.", "6"])
    assert set(found.cp_time) == {0.5, 48, 24, 6}
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
    assert new(tmp_path, ["5 uM", "0"]) == ["5", "24"] and "without a unit" not in caplog.text
    assert new(tmp_path, ["5", "10 uM"]) == ["5", "24"]
    assert "doses without a unit are read as um, that of the training rows" in caplog.text


def test_units_in_a_column_of_their_own(tmp_path, caplog):
    found = prepare(
        tmp_path, [10, 370], [1, 30], dose_unit=["uM", "nM"] * 4, age_units=["d", "h"] * 4
    )
    assert set(found.cp_dose) == {"10", "0.37"} and set(found.cp_time) == {24, 30}
    assert new(tmp_path, "10", "1") == ["10", "24"]
    table = pd.read_csv(tmp_path / "wells.csv").assign(dose_unit="pM", age_units="min")
    table.to_csv(tmp_path / "wells.csv", index=False)
    assert new(tmp_path, "1e7", "60") == ["10", "1"]
    assert "without a unit" not in caplog.text
    table.drop(columns=["dose_unit", "age_units"]).to_csv(tmp_path / "wells.csv", index=False)
    assert new(tmp_path, "10", "24") == ["10", "24"]
    assert "doses without a unit are read as um" in caplog.text
    assert "no column age_units: times without a unit are hours" in caplog.text


def test_a_column_of_units_that_are_none_leaves_numbers(tmp_path):
    found = prepare(tmp_path, [10, 5], dose_unit=["% v/v"] * 8)
    assert set(found.cp_dose) == {"10", "5"}


def test_a_column_of_units_that_is_not_meant(tmp_path):
    found = prepare(tmp_path, [10, 370], flags=["--dose_unit="], dose_unit=["uM", "nM"] * 4)
    assert set(found.cp_dose) == {"10", "370"}


@pytest.mark.parametrize("idose", [["10 uM", "370 nM"], ["-666", "-666"]])
def test_doses_of_the_connectivity_map_have_units(tmp_path, idose):
    is_there = idose[0] != "-666"
    names = {name: [f"{name}{row % 4}" for row in range(ROWS)] for name in ("d", "c")}
    table = pd.DataFrame(
        {
            "sig_id": [f"w{row}" for row in range(ROWS)],
            "f_1": [row % 5 for row in range(ROWS)],
            "moa": [*"xy"] * 4,
            "pert_id": names["d"] if is_there else "-666",
            "cmap_name": names["c"],
            "pert_type": "trt_cp",
            "pert_idose": idose * 4,
            "pert_dose": [10.0, 370] * 4,
            "pert_dose_unit": ["\u00b5M", "nM"] * 4,
        }
    )
    table.to_csv(tmp_path / "wells.csv", index=False)
    flags = ["--preset=cmap", "--features=f_"]
    main([str(tmp_path / "wells.csv"), f"--out={tmp_path / 'data'}", *flags])
    found = load(tmp_path / "data")
    assert {*map(float, found.cp_dose)} == {10, 0.37}
    assert found.drug_id.tolist() == names["d" if is_there else "c"]


def test_levels_that_are_nearly_one_are_told(tmp_path, caplog):
    prepare(tmp_path, [0.37, float(np.float32(0.37)), 1, 2])
    assert "nearly one number, as in another precision" in caplog.text
    assert "0.37 and 0.3700000047683716. Round them." in caplog.text


def test_hours_that_are_no_number(tmp_path):
    with pytest.raises(UserError, match="expected hours as a number, found '1e999'"):
        prepare(tmp_path, [1], ["1e999", "24"])


def test_a_vehicle_has_no_dose(tmp_path):
    """The Connectivity Map gives its share in another unit, or a mark for none."""
    kinds = ["ctl_vehicle", "trt_cp", "trt_cp", "trt_xpr"]
    doses = ["0.1 %", "10 uM", "370 nM", "100 ng/ml"]
    found = prepare(tmp_path, doses, kind=kinds * (ROWS // 4), flags=["--preset=cmap",
                    "--control_column=kind", "--control_value=ctl_vehicle,trt_xpr"])  # fmt: skip
    assert set(found.cp_dose) == {"10", "0.37"}


@pytest.mark.parametrize(
    ("doses", "dose", "expected"),
    [
        ([10, 5], "10 uM", "10"),
        (["10 uM", "500 nM"], "10 uM", "10 uM"),
        (["1,5 uM", "low"], "1,5 uM", "1,5 uM"),
    ],
)
def test_a_record_without_units(tmp_path, doses, dose, expected):
    """One of before they were written down, whose times were those of the unit that all had."""
    prepare(tmp_path, [5, 6])
    stored = json.loads((tmp_path / "data" / "columns.json").read_text())
    for one in stored["treatment"].values():
        del one["unit"]
    stored["treatment"]["cp_dose"]["levels"] = list(map(str, doses))
    (tmp_path / "data" / "columns.json").write_text(json.dumps(stored))
    assert new(tmp_path, dose, "24 min") == [expected, "24"]


def test_a_unit_that_the_training_rows_lack(tmp_path):
    prepare(tmp_path, [10, 5])
    with pytest.raises(UserError, match="row 1: expected a dose without a unit, .* '10 uM'"):
        new(tmp_path, "10 uM")


def test_words_with_and_without_a_unit_stay_levels(tmp_path):
    prepare(tmp_path, ["10 uM", "low"])
    assert prepared.read(tmp_path / "data")["treatment"]["cp_dose"]["unit"] == ""
    assert new(tmp_path, "10 uM") == ["10 uM", "24"]
