"""Tests of what a run writes of its answers: rules, tables, `predictions.csv` and its parquet."""

import dataclasses
import json

import numpy as np
import pandas as pd
import pytest
from answers import answered_run
from answers.answered_run import SPLITS

from moa_jax.answers import compounds, table
from moa_jax.blend import stored_weights
from moa_jax.config import AnswersConfig, RunConfig
from moa_jax.engine import answers
from moa_jax.engine.finished_run import FinishedRun
from moa_jax.errors import UserError
from moa_jax.store.predictions import Predictions
from moa_jax.training.metrics import mean_log_loss


@pytest.fixture(scope="module")
def run():
    return answered_run.make()


@pytest.fixture(scope="module")
def dataset(run):
    return run.dataset


@pytest.fixture(scope="module")
def models(run):
    return run.models


@pytest.fixture(scope="module")
def learned(run):
    return run.learned


@pytest.fixture(scope="module")
def folder(run, tmp_path_factory):
    return run.write(tmp_path_factory.mktemp("run"))


def test_the_parquet_file_has_every_well_and_compound(folder, dataset, models, learned):
    table = pd.read_parquet(folder / "blend" / "predictions.parquet")
    treated = ~dataset.test.is_control
    wells = table[table["sig_id"].notna()]
    assert dict.fromkeys(wells["sig_id"]) == dict.fromkeys(dataset.test.ids[treated])
    assert (~treated).any() and len(wells) == 5 * treated.sum()
    blended = models[3].values[treated]
    rule = learned.rules["wells"]
    calibrated = wells.pivot(index="sig_id", columns="mechanism", values="probability")
    expected = pd.DataFrame(rule.calibrated(blended), dataset.test.ids[treated])
    np.testing.assert_array_equal(
        calibrated.loc[dataset.test.ids[treated], list(dataset.targets.names)], expected
    )
    combined = compounds.combined(blended, dataset.test.drug_id[treated])
    of_compounds = table[table["compound"].notna()]
    assert of_compounds["sig_id"].isna().all()
    rule = learned.rules["compounds"]
    calls = of_compounds.pivot(index="compound", columns="mechanism", values="confident")
    calls = calls.loc[combined.names, list(dataset.targets.names)].to_numpy()
    assert (calls == rule.confident(combined.probabilities)).all() and calls.any()
    counts = of_compounds.groupby("compound")["replicates"].first()
    assert counts[combined.names].tolist() == combined.counts.tolist()
    assert of_compounds["spread"].notna().sum() == 5 * (combined.counts > 1).sum()
    assert table["model_spread"].notna().all()
    found = wells.pivot(index="sig_id", columns="mechanism", values="member_spread")
    found = found.loc[dataset.test.ids[treated], list(dataset.targets.names)]
    np.testing.assert_array_equal(found, models[3].spread[treated])
    found = of_compounds.pivot(index="compound", columns="mechanism", values="member_spread")
    first = dataset.test.drug_id == combined.names[0]
    expected = np.sqrt((models[3].spread[treated & first] ** 2).mean(0))
    np.testing.assert_allclose(
        found.loc[combined.names[0], list(dataset.targets.names)], expected, rtol=1e-12
    )


def test_mechanisms_come_by_rank(folder):
    table = pd.read_parquet(folder / "blend" / "predictions.parquet")
    for kind in ("sig_id", "compound"):
        for _, lines in table[table[kind].notna()].groupby(kind, sort=False):
            assert lines["rank"].tolist() == [1, 2, 3, 4, 5]
            assert (np.diff(lines["probability"]) <= 0).all()


def test_the_csv_lists_the_first_ranks_and_all_that_is_confident(folder):
    whole = pd.read_parquet(folder / "blend" / "predictions.parquet")
    listed = whole[(whole["rank"] <= 2) | whole["confident"]].reset_index(drop=True)
    table = pd.read_csv(folder / "blend" / "predictions.csv")
    assert len(listed) < len(whole)
    # What is missing is None or NaN as the version of pandas has it.
    table, listed = (t.astype(object).where(t.notna(), None) for t in (table, listed))
    pd.testing.assert_frame_equal(table, listed, check_dtype=False, rtol=1e-5)
    assert table.columns.tolist() == [
        "compound", "sig_id", "mechanism", "probability", "rank", "confident", "replicates",
        "spread", "model_spread", "member_spread",
    ]  # fmt: skip


def test_the_same_is_written_again(folder, dataset, models, learned, tmp_path):
    _, _, test, blended = models
    oof, together = models[:2]
    again = answers.learn(AnswersConfig(listed=2), dataset, oof, together, SPLITS, {"b"}, seed=0)
    again.write(tmp_path)
    config = AnswersConfig(listed=2)
    answers.write_test(tmp_path / "blend", again, config, dataset.test, blended, test)
    names = sorted(path.name for path in (tmp_path / "blend").iterdir())
    assert names == ["answers.json", "mechanisms.csv", "predictions.csv", "predictions.parquet",
                     "reliability.csv"]  # fmt: skip
    for name in names:
        assert (tmp_path / "blend" / name).read_bytes() == (folder / "blend" / name).read_bytes()
    answers.remove(tmp_path)
    assert not list((tmp_path / "blend").iterdir())


def test_without_compounds_there_are_wells_only(dataset, models, tmp_path):
    oof, blended, test, together = models
    plain = dataclasses.replace(
        dataset, drug_id=None, test=dataclasses.replace(dataset.test, drug_id=None)
    )
    found = answers.learn(AnswersConfig(), plain, oof, blended, SPLITS, (), seed=0)
    assert found.rules.keys() == {"wells"} and found.record["compounds"] is None
    assert "compounds" not in found.mechanisms
    one = {"a": test["a"]}
    answers.write_test(tmp_path, found, AnswersConfig(), plain.test, together, one)
    table = pd.read_parquet(tmp_path / "predictions.parquet")
    assert "compound" not in table and table["model_spread"].isna().all()


def test_without_out_of_fold_predictions_nothing_is_confident(models, tmp_path):
    _, _, test, blended = models
    answers.write_test(tmp_path, None, AnswersConfig(), None, blended, test)
    table = pd.read_parquet(tmp_path / "predictions.parquet")
    assert len(table) == blended.values.size and not table["confident"].any()
    first = table[table["rank"] == 1].set_index("sig_id")["probability"]
    np.testing.assert_array_equal(first[blended.ids], blended.values.max(1))


def test_scores_stand_beside_what_knows_less(learned, dataset, models):
    blend, a, b, constant = learned.record["scores"]
    kinds = [entry["kind"] for entry in (blend, a, b, constant)]
    assert kinds == ["blend", "model", "baseline", "constant"]
    assert [entry["whole"] for entry in (blend, a, b)] == [None, "compounds", "rows"]
    labels = dataset.targets.values[~dataset.is_control]
    assert blend["log_loss"] == pytest.approx(mean_log_loss(labels, models[1].values))
    assert a["above"] == pytest.approx(a["log_loss"] - blend["log_loss"])
    assert blend["low"] < blend["log_loss"] < blend["high"] < constant["log_loss"]
    assert a["above_high"] - a["above_low"] < a["high"] - a["low"]


def test_rules_are_read_back_as_the_weights_name_them(folder, learned):
    rules, listed, record = answers.read(folder, learned.hash, 5)
    assert listed == 2 and rules.keys() == {"wells", "compounds"}
    assert record == json.loads(json.dumps(learned.record))
    for name, rule in rules.items():
        assert rule.record() == learned.rules[name].record()
    with pytest.raises(UserError, match="answers.json: expected what was learned with the weights"):
        answers.read(folder, "0" * 64, 5)
    with pytest.raises(UserError, match=r"answers.json: damaged.*thresholds of 6 mechanisms"):
        answers.read(folder, learned.hash, 6)


def test_models_without_weight_are_no_part_of_the_blend(models):
    test = models[2]
    assert answers.weighed(test, {"a": 0.0, "b": 1.0}).keys() == {"b"}
    by_target = {"a": {"x": 0.0, "y": 0.5}, "b": {"x": 1.0, "y": 0.5}}
    assert answers.weighed(test, by_target).keys() == {"a", "b"}


@pytest.mark.parametrize(
    ("field", "rate"), [("calibration", "none"), ("false_discovery_rate", 0.03)]
)
def test_fields_reach_the_rules(dataset, models, learned, field, rate):
    config = AnswersConfig(**{field: rate})
    found = answers.learn(config, dataset, *models[:2], SPLITS, (), seed=0)
    if field == "calibration":
        assert found.record["rules"]["wells"]["losses"].keys() == {"none"}
    else:
        before, after = (of.rules["compounds"] for of in (learned, found))
        assert after.calls < before.calls


def test_unknown_labels_teach_nothing(dataset, models):
    """Neither rules nor scores depend on what stands in their cells."""
    treated = ~dataset.is_control
    known = np.random.default_rng(0).random((treated.sum(), 5)) < 0.7
    values = dataset.scored.values.copy()
    values[treated] = np.where(known, values[treated], 1 - values[treated])
    other = dataclasses.replace(dataset, scored=dataclasses.replace(dataset.scored, values=values))
    oof, blended = models[:2]
    first, second = (
        answers.learn(AnswersConfig(), data, oof, blended, SPLITS, (), 0, known)
        for data in (dataset, other)
    )
    assert first.record == second.record
    pd.testing.assert_frame_equal(first.mechanisms, second.mechanisms)
    pd.testing.assert_frame_equal(first.reliability, second.reliability)
    assert first.mechanisms["scored_wells"].tolist() == known.sum(0).tolist()
    every = answers.learn(AnswersConfig(), dataset, oof, blended, SPLITS, (), 0)
    assert every.record["scores"] != first.record["scores"]


def test_lines_are_written_as_pandas_writes_them(tmp_path):
    numbers = [0.1234567, 1e-9, np.nan, np.inf, 1.0, -1234567.0, 1e5]
    lines = pd.DataFrame(
        {
            "sig_id": ["a", "b,c", 'd"e', "f\ng", " h", "1", "\u03b1"],
            "compound": np.nan,
            "probability": numbers,
            "rank": np.arange(7),
            "confident": [True, False] * 3 + [True],
        }
    )
    with open(tmp_path / "lines.csv", "w", encoding="utf-8", newline="") as opened:
        table.write_csv(lines, opened)
    expected = lines.to_csv(index=False, header=False, lineterminator="\n", float_format="%.6g")
    assert (tmp_path / "lines.csv").read_text(encoding="utf-8") == expected


def test_scores_of_a_finished_run_have_the_names_of_its_mechanisms(tmp_path):
    """`NA` and `007` are names, too."""
    names = ("NA", "007", "x")
    Predictions(np.array(["a"]), names, np.full((1, 3), 0.5)).write(tmp_path / "blend/oof.parquet")
    stored_weights.write(tmp_path, {"weights": {"one": 1.0}, "score": 0.25})
    scores = pd.DataFrame({"mechanism": names, "wells": 3, "roc_auc": [0.5, np.nan, 1.0]})
    scores.to_csv(tmp_path / "blend" / "mechanisms.csv", index=False)
    finished = FinishedRun(tmp_path)
    finished.config = RunConfig({"one": None})
    found = finished.scores
    assert found["log_loss"] == 0.25 and found["mechanisms"].index.tolist() == [*names]
    assert found["mechanisms"]["roc_auc"].isna().tolist() == [False, True, False]
