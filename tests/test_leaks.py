"""Features that are an answer: told of a data folder, and not of what is only alike."""

import numpy as np
import pytest
from data_folders import frames, write

from moa_jax.config import DataConfig, RunConfig
from moa_jax.data import leaks
from moa_jax.engine import loading


def told(folder, content, caplog):
    caplog.clear()
    write(folder, content)
    loading.load_data(RunConfig({}, data=DataConfig(folder=str(folder))))
    return [line for line in caplog.messages if "an answer" in line]


def test_a_copy_of_a_label_is_told(tmp_path, caplog):
    content = frames(rows=40)
    assert not told(tmp_path, content, caplog)
    label = content["train_targets_scored"]["one"]
    content["train_features"]["g-1"] = 1 - label
    (line,) = told(tmp_path, content, caplog)
    assert "1, such as g-1; config.data.ignore leaves them out" in line
    content["train_features"].loc[0, "g-1"] = label[0]  # of a treated row
    assert not told(tmp_path, content, caplog)


@pytest.mark.parametrize(("rows", "expected"), [(40, True), (16, False)])
def test_few_rows_may_agree_by_chance(rows, expected):
    kinds = np.arange(rows) % 4
    assert leaks.are_answers(kinds[:, None] * 2.5, kinds[:, None] == np.arange(4)) == [expected]


@pytest.mark.parametrize(("width", "expected"), [(1, True), (1000, False)])
def test_many_columns_may_agree_by_chance(width, expected):
    """Of a thousand columns of two values one may fall on the few rows that have a label."""
    label = np.arange(24)[:, None] < 6
    values = np.repeat(label * 1.0, width, axis=1)
    assert leaks.are_answers(values, label).tolist() == [expected] * width


@pytest.mark.parametrize("positive", [1, 4])
def test_a_label_of_few_rows_is_met_by_chance(positive):
    label = np.arange(200)[:, None] < positive
    assert not leaks.are_answers(label * 1.0, label).any()


def test_many_rows_are_looked_at_here_and_there():
    rows = leaks.some(np.arange(10**5))
    assert len(rows) == leaks.MOST and (rows[0], rows[-1]) == (0, 10**5 - 1)
