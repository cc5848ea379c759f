"""Tests of the report: what is collected from a work folder and what the page shows of it."""

import re
import shutil
from html import escape

import numpy as np
import pytest
from page import Page

from moa_jax.blend import stored_weights
from moa_jax.errors import UserError
from moa_jax.report import html, records
from moa_jax.report.records import BlendRecord, FoldScore, StageRecord
from moa_jax.store import files
from moa_jax.store.model_files import ENSEMBLE

UGLY = 'nn <b>"new" & old</b>'


def conventions(score):
    """Made-up scores, each convention's recognisable by its distance from the first."""
    names = ("treated", "epsilon", "epsilon_all", "printed", "printed_treated")
    return dict(zip(names, score - np.array([0, 1, 100, 200, 101]) * 1e-5, strict=True))


@pytest.fixture
def workdir(tmp_path):
    """A run of two models, one with an ugly name, on data without cells and without test rows."""
    folder = tmp_path / "a run"
    data = {"source": "folder", "rows": 1423, "treated": 1400, "controls": 23, "genes": 772}
    data |= {"cells": 0, "scored": 206, "nonscored": 402, "test_rows": 0, "columns": {"cells": []}}
    config = {"honest": False, "models": {"plain": {"recipe": "simple_nn"}, UGLY: {}}}
    files.write_json(
        folder / "config.json",
        {"config": config, "hash": "0123abcd", "command": "launch.py --x='<y>'", "data": data},
    )
    files.write_json(
        folder / "environment.json",
        {
            "python": "3.12.1",
            "platform": "Linux",
            "packages": {"jax": "0.10.2"},
            "devices": ["cpu:cpu"] * 8,
            "strategy": "pmap",
        },
    )
    for name, score in (("plain", 0.0161234), (UGLY, 0.0155678)):
        files.write_json(
            folder / name / "metrics.json",
            {
                "recipe": "simple_nn",
                "scores": conventions(score),
                "seconds": 3723.0,
                "fidelity": {"split": "k_fold", "drop_first_gene": True, "rates": [0, 0.25]},
                "faithful": {"split": "stratified", "drop_first_gene": True, "rates": [0, 0.25]},
                "notes": [f"a note on {name}", "a note on both"],
                "convention": "printed" if name == "plain" else None,
                "stages": ["scored"],
            },
        )
        files.write_json(
            folder / name / "scored" / "metrics.json",
            {
                "network": "MLP",
                "inputs": 1091,
                "outputs": 206,
                "parameters": 7654321,
                "members": [
                    {"seed": 7, "fold": fold, "epoch": 21 + fold, "epochs_run": 25, "loss": 0.0171}
                    for fold in (0, 1)
                ],
                "score": score,
                "fold_scores": [
                    {"seed": 7, "fold": 0, "rows": 700, "score": 0.0169},
                    {"seed": 7, "fold": 1, "rows": 700, "score": 0.0167},
                    {"seed": None, "fold": 0, "rows": 700, "score": 0.0165},
                    {"seed": None, "fold": 1, "rows": 700, "score": 0.0163},
                ],
                "seconds": {"features": 1.5, "train": 83.2, "predict": 0.25},
                "peak_memory_bytes": 3 * 2**29,
                "groups": 2,
                "slots": 16,
                "devices_per_member": 2,
                "waves": [] if name == "plain" else [[8, 1], [2, 4]],
                "compilations": 3,
            },
        )
    stored_weights.write(
        folder,
        {
            "method": "slsqp",
            "weights": {"plain": 0.25, UGLY: 0.75},
            "loss": 0.0151234,
            "score": 0.0151234,
            "conventions": conventions(0.0151234),
            "nested": {
                "loss": 0.0152345,
                "weights": [{"plain": 0.2, UGLY: 0.8}, {"plain": 0.3125, UGLY: 0.6875}],
            },
            "best_model": UGLY,
            "best_model_loss": 0.0155678,
            "rows": 1400,
        },
    )
    (folder / "submission.csv").write_text("sig_id\n")
    return folder


def rendered(folder):
    path = folder / "blend" / "report.html"
    html.write(path, records.collect(folder))
    return Page(path.read_text(encoding="utf-8"))


def table(page, first):
    """The rows of the table whose first column's header is `first`."""
    (found,) = [rows for rows in page.tables if rows[0][0] == first]
    return found


def test_page_is_sound_and_self_contained(workdir):
    page = rendered(workdir)
    assert page.tags.isdisjoint({"script", "link", "img", "iframe"})
    text = (workdir / "blend" / "report.html").read_text(encoding="utf-8")
    assert text.startswith("<!DOCTYPE html>")
    assert not re.search(r"//|@import|url\(|src=|\bon\w+=", text)
    ids = page.values("id")
    assert len(ids) == len(set(ids))
    referred = page.values("aria-labelledby") + [href[1:] for href in page.values("href")]
    assert set(referred) <= set(ids)
    for rows in page.tables:
        assert {len(row) for row in rows} == {len(rows[0])}
        assert len(rows) > 1


def scores_of(page):
    """The rows of the table of scores, which stands before those of networks."""
    return next(rows for rows in page.tables if rows[0][:2] == ["Model", "Log loss"])


def test_names_are_escaped(workdir):
    page = rendered(workdir)
    assert "b" not in page.tags
    assert UGLY in page.text
    assert f"a note on {UGLY}" in page.text
    assert "launch.py --x='<y>'" in page.text


def test_scores_and_summary(workdir):
    page = rendered(workdir)
    scores = page.headed("1e-15 inside")
    expected = ["plain", "0.01612", "0.01611", "0.01512", "0.01412†", "0.01511", "simple_nn"]
    assert scores[1] == expected
    expected = [UGLY, "0.01557", "0.01556", "0.01457", "0.01357", "0.01456", "simple_nn"]
    assert scores[2] == expected
    assert scores[3] == ["Blend", "0.01512", "0.01511", "0.01412", "0.01312", "0.01411", "slsqp"]
    assert scores_of(page)[1:] == [
        ["plain", "0.01612", "simple_nn"],
        [f"{UGLY} best", "0.01557", "simple_nn"],
        ["Blend", "0.01512", "slsqp"],
    ]
    assert "Blend, in-sample 0.01512 log loss of 1,400 treated rows" in page.text
    assert "Blend, nested 0.01523" in page.text
    assert f"Best single model 0.01557 {UGLY}" in page.text
    assert str(workdir / "submission.csv") in page.text


def test_blend_weights_with_bars_and_nested_range(workdir):
    page = rendered(workdir)
    weights = page.headed("Weight")
    assert weights[1] == ["plain", "0.2500", "", "0.2000", "0.3125"]
    assert weights[2] == [UGLY, "0.7500", "", "0.6875", "0.8000"]
    assert weights[3][:2] == ["Sum", "1.0000"]
    assert page.values("style") == ["width: 25.00%", "width: 75.00%"]


def test_a_prior_is_told_with_what_it_asks_of_a_single_model(workdir):
    assert "out-of-fold predictions, found by SLSQP." in rendered(workdir).text
    assert "Equal weights were expected" not in rendered(workdir).text
    stored = stored_weights.read(workdir, ["plain", UGLY])
    stored_weights.write(workdir, stored | {"prior": 3.0})
    page = rendered(workdir)
    assert "predictions and what the prior has against unequal ones, found by SLSQP." in page.text
    assert "all weight on one of the 2 models would have had to gain 3 nats of log" in page.text
    assert "summed over rows and targets." in page.text
    assert "log odds" not in page.text
    stored_weights.write(workdir, stored | {"mean": "log_odds"})
    assert "The blend is the weighted mean of the models’ log odds." in rendered(workdir).text


def test_bars_of_weights_above_one_are_relative_to_the_largest():
    assert BlendRecord(weights={"a": 2.0, "b": 0.5}).longest == 2.0
    assert BlendRecord(weights={"a": 0.5, "b": 0.25}).longest == 1.0


def test_folds_by_seed_with_their_rows(workdir):
    folds = next(rows for rows in rendered(workdir).tables if rows[0][0] == "Seed")
    assert folds == [
        ["Seed", "All folds", "Fold 0", "Fold 1"],
        ["7", "0.01680", "0.01690", "0.01670"],
        ["Mean", "0.01640", "0.01650", "0.01630"],
        ["Rows", "1,400", "700", "700"],
    ]


def test_folds_of_unequal_size_and_missing_folds():
    stage = StageRecord(
        "scored",
        fold_scores=(
            FoldScore(3, 0, 10, 0.1),
            FoldScore(3, 2, 30, 0.2),
            FoldScore(5, 0, 20, 0.3),
            FoldScore(8, 0, 10, 0.4),
            FoldScore(8, 2, 30, 0.4),
        ),
    )
    assert stage.folds == (0, 2)
    assert [(r.label, r.folds) for r in stage.score_rows()] == [
        ("3", (0.1, 0.2)),
        ("5", (0.3, None)),
        ("8", (0.4, 0.4)),
    ]
    assert stage.score_rows()[0].whole == pytest.approx((10 * 0.1 + 30 * 0.2) / 40)
    assert [(r.label, r.folds, r.whole) for r in stage.size_rows()] == [
        ("Rows of 3, 8", (10, 30), 40),
        ("Rows of 5", (20, None), 20),
    ]


def test_folds_of_masked_labels_weigh_by_what_is_known():
    scores = (FoldScore(3, 0, 10, 0.1, known=5), FoldScore(3, 1, 10, 0.2, known=15))
    stage = StageRecord("scored", fold_scores=scores)
    (row,) = stage.score_rows()
    assert row.whole == pytest.approx((5 * 0.1 + 15 * 0.2) / 20)
    assert [one.whole for one in stage.size_rows()] == [20]


def test_switches_say_what_was_changed(workdir):
    switches = table(rendered(workdir), "Switch")
    assert switches[1] == ["", "", "", "plain"]
    assert switches[2:5] == [
        ["split", "k_fold", "stratified", "changed"],
        ["drop_first_gene", "true", "true", "faithful"],
        ["rates", "[0, 0.25]", "[0, 0.25]", "faithful"],
    ]


def test_networks_members_time_and_memory(workdir):
    page = rendered(workdir)
    networks, cost = [rows for rows in page.tables if rows[0][0] == "Stage"]
    expected = ["scored", "MLP", "1,091", "206", "7,654,321", "2", "2",
                "16, 2 devices each", "3", "0.01612"]  # fmt: skip
    assert networks[2] == expected
    assert networks[4][7] == "8 with 1 device each, 2 with 4 devices each"
    assert cost[2] == ["scored", "1.5 s", "1 min 23 s", "0.2 s", "1 min 25 s", "1.50 GiB"]
    assert "1 h 02 min from start to end" in page.text
    members = next(rows for rows in page.tables if rows[0][0] == "Member")
    assert members[2] == ["Seed 7, fold 1", "–", "–", "25", "22", "0.01710"]


def test_run_data_and_notes(workdir):
    page = rendered(workdir)
    assert "8 × cpu:cpu" in page.text
    assert "Configuration hash 0123abcd" in page.text
    assert table(page, "Package")[1] == ["jax", "0.10.2"]
    assert table(page, "Rows")[1] == ["1,423", "1,400", "23", "772", "0", "206", "402", "0"]
    assert "no cell viability columns" in page.text
    assert "no test file" in page.text
    assert "no gene expression columns" not in page.text
    assert "Not an honest run" in page.text
    assert "plain: a note on plain" in page.text and f"plain, {UGLY}: a note on both" in page.text


@pytest.mark.parametrize(
    ("cells", "said"),
    [(1, "1 label of scored targets. Losses, scores and weights leave it out."),
     (1234, "1,234 labels of scored targets. Losses, scores and weights leave them out.")],
)  # fmt: skip
def test_labels_that_were_not_measured_are_counted(workdir, cells, said):
    stored = files.read_json(workdir / "config.json")
    stored["data"]["not_measured"] = {"scored": cells}
    files.write_json(workdir / "config.json", stored)
    assert f"Not measured: {said}" in rendered(workdir).text


def test_honest_run_says_so(workdir):
    stored = files.read_json(workdir / "config.json")
    stored["config"]["honest"] = True
    files.write_json(workdir / "config.json", stored)
    assert "An honest run: no row influenced its own score" in rendered(workdir).text


def test_fixed_weights_have_no_nested_score(workdir):
    stored = stored_weights.read(workdir, ["plain", UGLY])
    stored_weights.write(
        workdir,
        {name: value for name, value in stored.items() if name != "nested"} | {"method": "fixed"},
    )
    page = rendered(workdir)
    assert "Weights fixed by the configuration" in page.text
    assert "nested" not in page.text.lower()
    assert page.headed("Weight")[1] == ["plain", "0.2500", ""]


def test_absent_keys_and_files_leave_a_dash(tmp_path):
    files.write_json(tmp_path / "config.json", {"config": {"models": {"one": {}, "two": {}}}})
    files.write_json(tmp_path / "one" / "metrics.json", {"stages": ["scored"], "unknown": 1})
    files.write_json(tmp_path / "one" / "scored" / "metrics.json", {"members": [{}]})
    page = rendered(tmp_path)
    assert scores_of(page)[1] == ["one", "–", "–"]
    assert "The model two is not finished." in page.text
    networks, cost = [rows for rows in page.tables if rows[0][0] == "Stage"]
    assert networks[2] == ["scored", "–", "–", "–", "–", "1", "–", "–", "–", "–"]
    assert cost[2] == ["scored"] + ["–"] * 5
    assert "Blend" not in page.text


def test_folder_without_a_run_and_damaged_files(workdir):
    with pytest.raises(UserError, match="config.json: not found"):
        records.collect(workdir / "nowhere")
    (workdir / "blend" / "weights.json").write_text("{")
    with pytest.raises(UserError, match="weights.json: damaged"):
        records.collect(workdir)


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (0.04, "0.0 s"),
        (59.94, "59.9 s"),
        (59.96, "1 min 00 s"),
        (3599.6, "1 h 00 min"),
        (90061, "25 h 01 min"),
    ],
)
def test_durations(workdir, seconds, shown):
    stored = files.read_json(workdir / "plain" / "metrics.json")
    files.write_json(workdir / "plain" / "metrics.json", stored | {"seconds": seconds})
    assert f"{shown} from start to end" in rendered(workdir).text


def test_what_no_run_removes_is_listed_with_its_figures(workdir):
    split = {"kept_whole": "compounds of at most 18 rows", "compounds": 57, "parted": 2,
             "shared_rows": 48}  # fmt: skip
    for name, record in (("plain", split), (UGLY, {"kept_whole": "rows", "compounds": None})):
        metrics = files.read_json(workdir / name / "metrics.json")
        files.write_json(workdir / name / "metrics.json", metrics | {"split": record})
    page = rendered(workdir)
    (found,) = [rows for rows in page.tables if "In several folds" in rows[0]]
    assert found[1] == ["plain", "compounds of at most 18 rows", "57", "2", "48"]
    assert found[2][:2] == [UGLY, "rows"] and "unknown without train_drug" in found[2][-1]


def test_a_blend_of_unlike_folds_is_flagged_and_one_of_like_folds_names_them(workdir):
    stored = stored_weights.read(workdir, ["plain", UGLY])
    stored_weights.write(workdir, stored | {"splits": {"compounds": ["plain", UGLY]}})
    page = rendered(workdir)
    assert "log loss of 1,400 treated rows, folds keep compounds whole" in page.text
    assert "may not compare like with like" not in page.text
    stored_weights.write(workdir, stored | {"splits": {"rows": ["plain"], "compounds": [UGLY]}})
    page = rendered(workdir)
    assert (
        f"folds differ or are not known: unlike folds: whole are rows of plain; compounds of {UGLY}"
        in page.text
    )
    assert "may not compare like with like" in page.text


def test_members_of_a_nested_stage_are_told_by_what_they_leave_out(workdir):
    plain = shutil.copytree(workdir, workdir.parent / "plain")
    path = workdir / "plain" / "scored" / "metrics.json"
    stored = files.read_json(path)
    for score, blocks in zip(stored["fold_scores"], ((0, 1), (0, 2)) * 2, strict=True):
        score["blocks"] = list(blocks)
    files.write_json(path, stored)
    page = rendered(workdir)
    assert any(t[0] == ["Seed", "All folds", "Blocks 0, 1", "Blocks 0, 2"] for t in page.tables)
    assert "grouped into blocks" in page.text
    assert "grouped into blocks" not in rendered(plain).text


def with_seeds(workdir, name, losses):
    """Writes losses of each seed alone: of fold 0, and of a fold 1 of three times the rows."""
    path = workdir / name / "scored" / "metrics.json"
    scores = [
        {"seed": seed, "fold": fold, "rows": rows, "score": loss}
        for seed, loss in enumerate(losses)
        for fold, rows in ((0, 350), (1, 1050))
    ]
    scores.append({"seed": None, "fold": 0, "rows": 1400, "score": 7.0})
    files.write_json(path, {**files.read_json(path), "fold_scores": scores})


@pytest.mark.parametrize(("step", "ranks"), [(0.0002, True), (0.0006, False)])
def test_spread_over_seeds_and_no_ranking_within_it(workdir, step, ranks):
    """The models are 0.00056 apart; three losses at equal steps deviate by the step."""
    with_seeds(workdir, "plain", [0.0162, 0.0162 + step, 0.0162 + 2 * step])
    page = rendered(workdir)
    plain, other = scores_of(page)[1:3]
    assert plain[:2] == ["plain", f"0.01612 ± {step:.5f}"]
    assert other[1] == "0.01557"
    assert other[0] == (f"{UGLY} best" if ranks else UGLY)
    assert ("Best single model" in page.text) == ranks == ("Lowest single loss" not in page.text)


def test_beside_a_model_without_a_score_none_is_the_best(workdir):
    """Whether that one is better nobody knows."""
    assert scores_of(rendered(workdir))[2][0] == f"{UGLY} best"
    path = workdir / "plain" / "metrics.json"
    files.write_json(path, {**files.read_json(path), "scores": {}})
    page = rendered(workdir)
    assert scores_of(page)[2][0] == UGLY and "Lowest single loss" in page.text


@pytest.mark.parametrize(
    ("source", "folder", "caption"),
    [("folder", "/data/<b>", "Data of /data/<b>"), ("folder", "", "Data"),
     ("simulated", "", "Data, simulated")],
)  # fmt: skip
def test_data_are_told_by_their_folder(workdir, source, folder, caption):
    stored = files.read_json(workdir / "config.json")
    stored["config"]["data"], stored["data"]["source"] = {"folder": folder}, source
    files.write_json(workdir / "config.json", stored)
    rendered(workdir)
    text = (workdir / "blend" / "report.html").read_text(encoding="utf-8")
    assert f'id="data-table">{escape(caption)}</figcaption>' in text


def test_members_of_an_ensemble_are_no_seeds_of_a_model(workdir):
    """They differ by what they drew: that tells nothing of seeds, and keeps no model from rank."""
    with_seeds(workdir, "plain", [0.0162, 0.0168, 0.0174])
    assert scores_of(rendered(workdir))[1][1] == "0.01612 ± 0.00060"
    files.write_json(workdir / "plain" / ENSEMBLE, {})
    plain, other = scores_of(rendered(workdir))[1:3]
    assert plain[1] == "0.01612" and other[0] == f"{UGLY} best"
