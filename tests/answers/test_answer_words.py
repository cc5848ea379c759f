"""Tests of the report's answers: that what the page says is true of the run it is about."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
from answers import answered_run
from page import Page

from moa_jax.report import answers_record, html, records
from moa_jax.report.answers_record import Answers, Score
from moa_jax.report.drivers import Driver
from moa_jax.report.hits import Hit, Hits
from moa_jax.report.stage_record import MemberRecord, StageRecord

ODD = '<b>x</b> & "q" \'s µ-受容体' + "_long" * 60


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    return records.collect(answered_run.make().write(tmp_path_factory.mktemp("run")))


def page(report, path, **answers):
    """The page of a report some of whose answers are others."""
    answers = dataclasses.replace(report.answers, **answers)
    html.write(path / "report.html", dataclasses.replace(report, answers=answers))
    return (path / "report.html").read_text(encoding="utf-8")


def score(kind, loss, above=None, low=None, high=None, name="", whole="rows"):
    return Score(name, kind, whole, loss, loss - 0.01, loss + 0.01, above, low, high)


def hit(name, confident=(), count=1):
    return Hit(name, count, (("m1", 0.5),), tuple(confident), None, None)


@pytest.mark.parametrize(
    ("above", "ends", "first", "is_told"),
    [
        (-0.006, (-0.0236, 0.0156), "share 0.19400 0.00600 (-0.016 to 0.024) less than", True),
        (0.002, (-0.001, 0.004), "logistic 0.20100 0.00100 (0.0005 to 0.0020) more than", True),
        (0.002, (0.001, 0.004), "logistic 0.20100 0.00100 (0.0005 to 0.0020) more than", False),
    ],
)
def test_a_blend_that_knows_no_more_than_shares_is_not_praised(
    report, tmp_path, above, ends, first, is_told
):
    """A baseline that is worse than a constant is nothing to be held against."""
    blend = score("blend", 0.2, 0.0, 0.0, 0.0)
    baseline = score("baseline", 0.201, 0.001, 0.0005, 0.002, "logistic")
    scores = (blend, baseline, score("constant", 0.2 + above, above, *ends))
    text = Page(page(report, tmp_path, scores=scores)).text
    assert f"{first} the blend" in text
    assert ("The blend is not better than each mechanism’s share" in text) == is_told


def test_what_wells_of_known_compounds_teach_is_not_said_of_new_ones(report, tmp_path):
    for whole, compounds, is_told in (("rows", 9, True), ("rows", None, False), ("x", 9, False)):
        blend = score("blend", 0.2, 0.0, 0.0, 0.0, whole=whole)
        text = Page(page(report, tmp_path, scores=(blend,), compounds=compounds)).text
        assert ("of new compounds they may be too sure" in text) == is_told
        assert ("judged by annotated wells: " in text) and ("of 9 compounds." in text) == (
            compounds is not None
        )


@pytest.mark.parametrize(
    ("whole", "known", "said"),
    [
        ("rows", 1, "of new compounds, as 2 of these 3 compounds are, they may be too sure"),
        ("rows", 2, "of new compounds, as 1 of these 3 compounds is, they may be too sure"),
        ("groups", None, "hold for wells of new groups: of new compounds they may be too sure"),
        ("rows", 3, None),
        ("compounds", 2, "2 of these 3 compounds have training wells, which the models know."),
        ("compounds", 0, None),
        ("compounds", None, None),
    ],
)
def test_compounds_to_predict_are_held_against_those_of_the_score(
    report, tmp_path, whole, known, said
):
    hits = Hits("compound", tuple(map(hit, "abc")), 3, 0, 3)
    findings = dataclasses.replace(report.findings, known_compounds=known)
    report = dataclasses.replace(report, findings=findings)
    blend = score("blend", 0.2, 0.0, 0.0, 0.0, whole=whole)
    text = Page(page(report, tmp_path, scores=(blend,), compounds=9, hits=hits)).text
    assert (said or "Confident") in text
    assert said or ("too sure" not in text and "training wells" not in text)


@pytest.mark.parametrize(
    ("whole", "asked"),
    [
        ("compounds", "new compounds"),
        ("groups", "wells of new groups"),
        ("rows", "new wells of known compounds"),
        (None, "new wells"),
    ],
)
def test_without_rows_to_predict_the_question_is_that_of_the_folds(whole, asked):
    found = Answers(compounds=3, scores=(score("blend", 0.2, whole=whole),))
    assert found.asked() == asked and Answers().asked() == "new wells"


def test_one_mechanism_is_named(report, tmp_path):
    report = dataclasses.replace(report, data={**report.data, "scored": 1})
    mechanisms = ({**report.answers.mechanisms[0], "mechanism": ODD},)
    assert (
        f"have the mechanism {ODD}, judged by"
        in Page(page(report, tmp_path, mechanisms=mechanisms)).text
    )


def test_one_compound_is_singular(report, tmp_path):
    shown = (hit("only", [("m1", 0.9)]),)
    text = Page(page(report, tmp_path, hits=Hits("compound", shown, 1, 1, 1))).text
    assert "of 1 compound to predict" in text and "1 of 1 compound has a confident" in text


def test_many_calls_of_a_compound_are_counted_and_none_is_sorted_last(report, tmp_path):
    calls = [(f"m{index}", 0.9) for index in range(14)]
    shown = (hit("many", calls), hit("none"), hit("few", calls[:10]))
    text = page(report, tmp_path, hits=Hits("compound", shown, 3, 2, 3))
    many, none, few = Page(text).headed("Likeliest")[1:]
    assert many[2].endswith("m9 90 % and 4 more") and "more" not in few[2]
    assert none[2] == "none" and text.count('<td class="text" data-value="">') == 1


def test_odd_names_stay_names(report, tmp_path):
    mechanisms = [{**report.answers.mechanisms[0], "mechanism": ODD}]
    hits = Hits("compound", (hit(ODD, [(ODD, 0.9)]),), 1, 1, 1)
    found = Page(page(report, tmp_path, hits=hits, mechanisms=tuple(mechanisms)))
    assert "b" not in found.tags
    assert found.headed("Likeliest")[1][0] == found.headed("Enrichment")[1][0] == ODD
    assert found.headed("Likeliest")[1][2] == f"{ODD} 90 %"


def test_drivers_stand_beside_how_well_their_mechanism_is_told(tmp_path):
    folder = answered_run.make().write(tmp_path)
    names = [*records.collect(folder).answers.by_mechanism(), *(f"x{i}" for i in range(70))][::-1]
    table = pd.DataFrame({"mechanism": names, "feature": "g-1", "attribution": 0.5})
    table.to_parquet(folder / "blend" / "attributions.parquet")
    report = records.collect(folder)
    text = page(report, tmp_path)
    rows = Page(text).headed("Features, and their attributions")
    scores = pd.read_csv(folder / "blend" / "mechanisms.csv", index_col="mechanism")
    listed = [row[0] for row in rows[1:]]
    ordered = scores.loc[listed[: len(scores)], "wells"]
    assert len(listed) == 60 and (np.diff(ordered) <= 0).all()
    assert [row[1] for row in rows[1 : len(scores) + 1]] == [
        f"{value:.3f}" for value in scores.loc[ordered.index, "roc_auc"]
    ]
    assert rows[len(scores) + 1][1] == "–"
    assert f"Listed are 60 of {len(names)} mechanisms: those that hits" in Page(text).text


def test_what_hits_are_called_is_listed_however_rare(report, tmp_path, monkeypatch):
    """What a reader looks up are the mechanisms of hits."""
    monkeypatch.setattr(answers_record, "MOST_MECHANISMS", 3)
    monkeypatch.setattr(answers_record, "MOST_DRIVEN", 2)
    row = report.answers.mechanisms[0]
    mechanisms = [{**row, "mechanism": f"m{i}", "wells": 90 - i} for i in range(9)][::-1]
    drivers = [Driver(f"m{i}", (("g-1", 0.5, 1.0),)) for i in range(9)]
    hits = Hits("compound", (hit("c", [("m7", 0.9)]),), 1, 1, 1)
    for found, listed in ((hits, ["m0", "m1", "m7"]), (None, ["m0", "m1", "m2"])):
        text = page(report, tmp_path, mechanisms=mechanisms, drivers=drivers, hits=found)
        assert [row[0] for row in Page(text).headed("Enrichment")[1:]] == listed
        driven = Page(text).headed("Features, and their attributions")
        assert [row[0] for row in driven[1:]] == [listed[0], listed[1 if found is None else 2]]
        assert "Listed are 3 of 9: those that hits" in Page(text).text


@pytest.mark.parametrize(
    ("value", "shown"),
    [(1.0, "100 %"), (0.9996, "> 99.9 %"), (0.9994, "99.9 %"), (0.265, "26.5 %"), (0.0, "0 %"),
     (2e-6, "< 0.001 %"), (3e-5, "0.003 %")],
)  # fmt: skip
def test_only_what_is_certain_is_100_per_cent(value, shown):
    filters = html.environment().filters
    assert filters["share"](value).replace("\N{NO-BREAK SPACE}", " ") == shown


def test_no_prediction_is_shown_as_certain(report, tmp_path):
    """Six digits of the file may be."""
    sure = Hit("c", 1, (("m1", 1.0), ("m2", 0.0)), (("m1", 1.0),), None, None)
    text = page(report, tmp_path, hits=Hits("compound", (sure,), 1, 1, 1))
    row = Page(text).headed("Likeliest")[1]
    assert [row[i].replace("\N{NO-BREAK SPACE}", " ") for i in (2, 4, 7)] == [
        "m1 > 99.9 %", "> 99.9 %", "m2 < 0.001 %",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("low", "high", "shown"),
    [
        (0.15, 0.26, "(0.150 to 0.260)"),
        (0.01491, 0.01534, "(0.01491 to 0.01534)"),
        (-0.0012, 0.0015, "(-0.0012 to 0.0015)"),
        (0.2, 0.2, "(0.20000 to 0.20000)"),
        (None, 0.2, ""),
    ],
)
def test_an_interval_has_digits_for_its_width(low, high, shown):
    assert html.environment().filters["between"](low, high) == shown


def test_a_learners_members_have_no_epochs(report, tmp_path):
    """Their loss is of inner folds of their training rows, not of what they left out."""
    member = MemberRecord(0, 0, loss=0.25, train_rows=20, valid_rows=10)
    network = dataclasses.replace(member, epoch=3, epochs_run=4)
    model = report.models[0]
    for one, heading in ((member, "Loss of inner folds"), (network, "Validation loss")):
        stages = (StageRecord("scored", members=(one,)),)
        models = (dataclasses.replace(model, stages=stages),)
        html.write(tmp_path / "report.html", dataclasses.replace(report, models=models))
        text = Page((tmp_path / "report.html").read_text(encoding="utf-8"))
        rows = text.headed(heading)
        assert rows[1][-1] == "0.25000" and ("Epoch kept" in rows[0]) == (one is network)
