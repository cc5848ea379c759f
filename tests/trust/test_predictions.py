"""Predictions: probabilities that were written, or one line."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest

from moa_jax.errors import UserError
from moa_jax.store.predictions import Predictions

IDS = np.array([f"id_{number:05d}" for number in range(400)], object)
VALUES = np.random.default_rng(0).random((400, 3))


@pytest.fixture
def path(tmp_path):
    Predictions(IDS, ("a", "b", "c"), VALUES).write(tmp_path / "oof.parquet")
    return tmp_path / "oof.parquet"


def test_a_flipped_bit_changes_no_number(path):
    """Of the pages; what the end of the file tells of them is the manifest's to hold."""
    whole, told = path.read_bytes(), 0
    pages = len(whole) - 8 - int.from_bytes(whole[-8:-4], "little")
    for place in np.random.default_rng(1).integers(4, pages, 120):
        damaged = bytearray(whole)
        damaged[place] ^= 1 << int(place) % 8
        path.write_bytes(damaged)
        try:
            found = Predictions.read(path)
            assert found.ids.tolist() == IDS.tolist()
            np.testing.assert_array_equal(found.values, VALUES)
        except UserError as error:
            assert str(error).startswith(f"{path}: damaged") and "\n" not in str(error)
            told += 1
    assert told > 100


@pytest.mark.parametrize("value", [-1e-9, 1.0000001, np.nan, np.inf, -3.0])
def test_what_is_no_probability_is_refused(path, value):
    values = VALUES.copy()
    values[7, 1] = value
    Predictions(IDS, ("a", "b", "c"), values).write(path)
    with pytest.raises(UserError, match="oof.parquet: column b: sig_id id_00007: expected a"):
        Predictions.read(path)


@pytest.mark.parametrize(
    "columns",
    [
        {"sig_id": ["x", None], "a": [0.5, 0.5]},
        {"sig_id": ["x", "y"], "a": ["0.5", "0.5"]},
        {"sig_id": ["x", "y"], "a": [None, 0.5]},
        {"sig_id": [[1], [2]], "a": [0.5, 0.5]},
        {"sig_id": ["x", "x"], "a": [0.5, 0.5]},
        {"a": [0.5, 0.5]},
    ],
)
def test_another_layout_is_one_line(path, columns):
    pa.parquet.write_table(pa.table(columns), path)
    with pytest.raises(UserError) as raised:
        Predictions.read(path)
    assert str(raised.value).startswith(f"{path}: ") and "\n" not in str(raised.value)
