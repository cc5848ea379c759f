"""Tests of what the report reads of predictions and training, and how the page shows it."""

import json

import numpy as np
import pandas as pd
import pytest
from page import Page

from moa_jax.blend import stored_weights
from moa_jax.recipes import RECIPES
from moa_jax.report import figures, findings, html, original, records
from moa_jax.store import files
from moa_jax.training import metrics

CORRELATIONS = {"models": ["a", "b"], "rows": 7, "pearson": [[1.0, 0.625], [0.625, 1.0]],
                "spearman": [[1.0, None], [None, 1.0]]}  # fmt: skip


def epochs(stage, losses):
    """Lines of the metrics file: `losses` has members by epochs."""
    for member, by_epoch in enumerate(losses):
        for epoch, loss in enumerate(by_epoch):
            yield {"stage": stage, "group": 0, "epoch": epoch + 1, "seed": 0, "fold": member,
                   "train_loss": loss / 2, "valid_loss": loss}  # fmt: skip


@pytest.fixture
def workdir(tmp_path):
    """A blend of two models with everything that there is to show."""
    scores = dict.fromkeys(("treated", "epsilon", "epsilon_all", "printed", "printed_treated"), 0.1)
    files.write_json(
        tmp_path / "config.json",
        {
            "config": {
                "models": {"a": {"recipe": "three_stage_nn", "folds": 5}},
                "blend": {"files": {"b": {"oof": "b.csv", "test": ""}}},
            },
            "data": {"source": "folder"},
        },
    )
    recorded = {"recorded": 0.015606, "convention": "printed"}
    files.write_json(tmp_path / "a" / "metrics.json", recorded)
    lines = [*epochs("a/scored", [[0.7, 0.4, 0.1], [0.5, 0.2], [0.52, 0.3, 0.2]])]
    lines += [*epochs("a/stacked", [[0.3]])]
    files.write_text(tmp_path / "metrics.jsonl", "".join(json.dumps(s) + "\n" for s in lines))
    positions = [[0.0, 0.0], [1.0, 2.0], [3.0, 1.0], [2.0, 2.0], [2.5, 0.5]]
    blend = tmp_path / "blend"
    files.write_json(
        blend / "analysis.json",
        {
            "scores": {"a": scores, "b": scores},
            "calibration": [
                {"predicted": 1e-4, "observed": 0.0, "cells": 900, "positives": 0},
                {"predicted": 0.05, "observed": 0.04, "cells": 1100, "positives": 44},
            ],
            "oof": CORRELATIONS,
            "without": {"a": 0.12, "b": 0.1 - 1e-9},
            "maps": [
                {
                    "name": "tsne_0/fold0",
                    "positions": positions,
                    "groups": ["treatment", "gene", "gene", "gene", "cell"],
                    "pixels": [[0, 0], [1, 3], [3, 1], [2, 3], [2, 0]],
                    "side": 4,
                    "images": [{"sig_id": "id_<1>", "target": "nfkb", "values": [0, 1, 0.5, 1, 0]}],
                }
            ],
        },
    )
    table = pd.DataFrame(
        {
            "target": ["NA", "rare <one>", "common"],
            "positives": [3, 1, 50],
            "mean_prediction": [0.03, 0.01, 0.5],
            "loss": [0.3, 0.2, 0.1],
            "loss of a": [0.4, 0.1, 0.2],
            "loss of b": [0.2, 0.3, 0.15],
        }
    )
    table.to_csv(blend / "targets.csv", index=False)
    stored_weights.write(
        tmp_path,
        {
            "method": "per_target",
            "weights": {"a": {"x": 0.5, "y": 1.0, "z": 0.0}, "b": {"x": 0.5, "y": 0.0, "z": 1.0}},
            "score": 0.1, "loss": 0.1, "conventions": scores, "best_model": "b",
            "best_model_loss": 0.11, "rows": 100,
            "nested": {"loss": 0.105, "weights": [{"a": 0.25, "b": 0.75}]},
        },
    )  # fmt: skip
    return tmp_path


@pytest.fixture
def page(workdir):
    html.write(workdir / "report.html", records.collect(workdir))
    return Page((workdir / "report.html").read_text(encoding="utf-8"))


def table(page, first):
    (found,) = [rows for rows in page.tables if rows[0][0] == first]
    return found


def test_curves_are_medians_of_the_members_still_training(workdir):
    scored, stacked = findings.collect(workdir).curves
    assert (scored.stage, scored.members, scored.epochs) == ("a/scored", 3, (1, 2, 3))
    np.testing.assert_allclose(scored.valid, [0.52, 0.3, 0.15])
    np.testing.assert_allclose(scored.train, [0.26, 0.15, 0.075])
    np.testing.assert_allclose(scored.lowest, [0.5, 0.2, 0.1])
    np.testing.assert_allclose(scored.highest, [0.7, 0.4, 0.2])
    assert stacked.epochs == (1,)


def test_known_compounds_are_read(workdir):
    assert findings.collect(workdir).known_compounds is None
    path = workdir / "blend" / "analysis.json"
    files.write_json(path, {**files.read_json(path), "known_compounds": 3})
    assert findings.collect(workdir).known_compounds == 3


def test_every_drawing_has_a_text_and_all_ids_are_there(page, workdir):
    text = (workdir / "report.html").read_text(encoding="utf-8")
    # Two curves, calibration, one map and one image.
    assert text.count("<svg") == text.count('role="img" aria-label="') == 5
    assert text.count("<title>") == 6
    referred = page.values("aria-labelledby") + [href[1:] for href in page.values("href")]
    assert set(referred) <= set(page.values("id"))
    assert "script" not in page.tags and "img" not in page.tags
    for rows in page.tables:
        assert {len(row) for row in rows} == {len(rows[0])}
    assert "id_<1>: nfkb" in page.text


def test_mechanisms_by_loss_and_by_frequency(page):
    hardest, frequent = [rows for rows in page.tables if rows[0][0] == "Mechanism"]
    assert hardest[1] == ["NA", "3", "3 %", "0.30000", "0.13474", "0.20000", "b"]
    assert [row[0] for row in hardest[1:]] == ["NA", "rare <one>", "common"]
    assert [row[0] for row in frequent[1:]] == ["common", "NA", "rare <one>"]
    assert frequent[1][4] == "0.69315"  # of a constant 1/2


def test_weights_of_each_target_are_summed_up(page):
    weights = page.headed("Weight")
    assert weights[0][5:7] == ["Targets at 0", "Targets at 1"]
    expected = ["a", "0.5000", "", "0.2500", "0.2500", "1", "1", "0.12000", "0.02000"]
    assert weights[1] == expected
    assert weights[2][-2:] == ["0.10000", "0.00000"]  # 1e-9 less, and no -0


def test_correlations_are_shaded(page):
    pearson, spearman = [rows for rows in page.tables if rows[0] == ["Model", "a", "b"]]
    assert pearson[1:] == [["a", "1", "0.62"], ["b", "0.62", "1"]]
    assert spearman[1:] == [["a", "1", "–"], ["b", "–", "1"]]
    assert page.values("style").count("--share: 62%") == 2


def test_models_from_files_stand_beside_the_own(page):
    scores = page.tables[1]
    assert [row[0] for row in scores] == ["Model", "a", "b best", "Blend"]
    assert scores[2][-1] == "from a file"
    assert [row[0] for row in page.headed("1e-15 inside")] == ["Model", "a", "b", "Blend"]
    assert "What the predictions of b have seen, which come from files, is not known" in page.text


@pytest.mark.parametrize("same", [True, False])
def test_recorded_scores_stand_beside_those_on_the_original_data_only(workdir, same):
    data = {**original.SIZES, "source": "folder"}
    stored = files.read_json(workdir / "config.json")
    files.write_json(workdir / "config.json", stored | {"data": data})
    counts = original.POSITIVES if same else {"nfkb_inhibitor": 831}
    positives = pd.DataFrame({"target": counts.keys(), "positives": counts.values()})
    positives.assign(mean_prediction=0.1, loss=0.1, **{"loss of a": 0.1}).to_csv(
        workdir / "blend" / "targets.csv", index=False
    )
    html.write(workdir / "report.html", records.collect(workdir))
    page = Page((workdir / "report.html").read_text(encoding="utf-8"))
    scores = page.headed("1e-15 inside")
    assert ("The original’s" in scores[0]) == same
    if same:
        assert [row[2] for row in scores[1:]] == ["0.01561", "–", "0.01511"]


@pytest.mark.parametrize(
    ("config", "score"),
    [
        ({"recipe": "three_stage_nn", "folds": 10}, 0.015461),
        ({"recipe": "three_stage_nn", "folds": 7}, None),
        ({"recipe": "two_heads_resnet", "version": "v2"}, 0.015660),
        ({"recipe": "deepinsight_cnn", "version": "resnest_v2"}, 0.015756),
        ({"recipe": "nn_tabnet"}, 0.016234),
    ],
)
def test_recorded_score_of_a_model(config, score):
    assert RECIPES[config["recipe"]](**config).recorded_score == score


def test_every_recipe_prints_a_known_convention():
    known = metrics.conventions(np.zeros((1, 1)), np.zeros((1, 1)), 0)
    assert {config.convention for config in RECIPES.values()} - {None} <= known.keys()


def test_conventions_are_told_of_the_original_only(workdir):
    assert records.collect(workdir).is_original()
    files.write_json(workdir / "a" / "metrics.json", {"convention": None})
    html.write(workdir / "report.html", records.collect(workdir))
    page = Page((workdir / "report.html").read_text(encoding="utf-8"))
    assert "1e-15 inside" not in page.text and "#conventions" not in page.values("href")


def test_models_without_a_recorded_score_have_none(workdir):
    files.write_json(workdir / "a" / "metrics.json", {})
    assert records.collect(workdir).models[0].recorded is None


def test_simulated_data_are_never_the_original():
    data = {**original.SIZES, "source": "simulated"}
    assert not original.is_original_data(data, original.POSITIVES)
    assert original.is_original_data({**data, "source": "folder"}, original.POSITIVES)


def test_honest_runs_report_the_nested_score(workdir):
    stored = files.read_json(workdir / "config.json")
    stored["config"]["honest"] = True
    files.write_json(workdir / "config.json", stored)
    weights = stored_weights.read(workdir, ["a", "b"]) | {"score": 0.105}
    stored_weights.write(workdir, weights)
    html.write(workdir / "report.html", records.collect(workdir))
    page = Page((workdir / "report.html").read_text(encoding="utf-8"))
    assert page.text.index("Blend, nested 0.10500") < page.text.index("Blend, in-sample 0.10000")
    assert page.tables[1][-1][:2] == ["Blend, nested", "0.10500"]
    assert page.headed("1e-15 inside")[-1][:2] == ["Blend, nested", "0.10500"]


def test_a_blend_without_scores_has_a_page(workdir):
    weights = {"method": "fixed", "weights": {"a": 0.5, "b": 0.5}, "rows": 100}
    stored_weights.write(workdir, weights)
    files.write_json(workdir / "blend" / "analysis.json", {"scores": {}})
    (workdir / "blend" / "targets.csv").unlink()
    html.write(workdir / "report.html", records.collect(workdir))
    page = Page((workdir / "report.html").read_text(encoding="utf-8"))
    assert "The file of b has no out-of-fold predictions: it has no score." in page.text
    assert "Weights fixed by the configuration" in page.text
    assert "Best single model" not in page.text


def test_png_files(workdir):
    pytest.importorskip("matplotlib")
    figures.write(workdir / "blend", records.collect(workdir))
    names = {path.name for path in (workdir / "blend").glob("*.png")}
    assert names == {"learning_curves.png", "calibration.png", "correlations.png", "weights.png"}
    for name in names:
        assert (workdir / "blend" / name).read_bytes().startswith(b"\x89PNG")
    (workdir / "metrics.jsonl").unlink()
    figures.write(workdir / "blend", records.collect(workdir))
    left = {path.name for path in (workdir / "blend").glob("*.png")}
    assert left == names - {"learning_curves.png"}


def test_without_matplotlib_there_are_no_png_files(workdir, monkeypatch):
    monkeypatch.setattr(figures.importlib.util, "find_spec", lambda name: None)
    figures.write(workdir / "blend", records.collect(workdir))
    assert not list((workdir / "blend").glob("*.png"))
