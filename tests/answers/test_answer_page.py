"""Tests of the report's answers: what the page shows, its size, and how a browser behaves."""

import dataclasses
import json
import re
import shutil
import subprocess
import time

import numpy as np
import pandas as pd
import pytest
from answers import answered_run
from page import Page

from moa_jax.report import hits, html, records
from moa_jax.report.answers_record import Answers
from moa_jax.store import files

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser")
# Sorts by probability, filters, and tells what came of it.
PROBE = """
<script>
const box = document.querySelector("#hits-table + .tools");
const table = document.querySelector(".sortable table");
const shown = () => [...table.tBodies[0].rows].filter((row) => !row.hidden);
const names = () => shown().map((row) => row.cells[0].textContent);
const found = { before: names(), width: document.documentElement.scrollWidth };
const status = box.querySelector("[role=status]");
const laid = () => shown().filter((row) => getComputedStyle(row).display !== "none").length;
found.first = [laid(), status.textContent];
const button = table.querySelectorAll("thead button")[0];
button.click();
found.ascending = names();
button.click();
found.descending = names();
found.sorted = table.tHead.rows[0].cells[0].getAttribute("aria-sort");
const [search, only] = box.querySelectorAll("input");
search.value = found.before[0];
search.dispatchEvent(new Event("input"));
found.filtered = names();
search.value = "";
only.click();
found.confident = names();
found.status = status.textContent;
found.every = laid();
only.click();
found.again = laid();
const scores = document.querySelector(".wrapped");
found.cut = scores.scrollWidth - scores.clientWidth;
box.querySelector("button").click();
found.last = [laid(), status.textContent, box.querySelector("button").hidden];
found.errors = window.errors;
parent.postMessage("PROBE" + JSON.stringify(found) + "END", "*");
</script>
"""
# A window has a least width, a frame has none.
FRAME = """<!DOCTYPE html>
<script>onmessage = (event) => { document.body.textContent = event.data; };</script>
<iframe src="{name}" style="width: {width}px; height: 900px"></iframe>
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = answered_run.make().write(tmp_path_factory.mktemp("run"))
    table = pd.DataFrame(
        [("m1", "g-1", 0.5), ("m1", "g-2", -0.75), ("m1", "g-3", 0.01), ("m2", "g-1", 0.25)],
        columns=["mechanism", "feature", "attribution"],
    )
    table.to_parquet(path / "blend" / "attributions.parquet")
    return path


@pytest.fixture(scope="module")
def text(folder):
    html.write(folder / "report.html", records.collect(folder))
    return (folder / "report.html").read_text(encoding="utf-8")


def said(folder):
    """The text of a folder's page."""
    html.write(folder / "report.html", records.collect(folder))
    page = Page((folder / "report.html").read_text(encoding="utf-8"))
    return " ".join(page.text.split())


def test_sections_come_in_the_order_of_a_reader(text):
    found = re.findall(r'<h2[^>]* id="(\w+)"', text)
    assert found[:7] == [
        "data", "scores", "hits", "mechanisms", "drivers", "calibration", "appendix",
    ]  # fmt: skip
    assert "conventions" not in found


def test_hits_are_those_of_the_file_confident_ones_first(folder, text):
    rows = Page(text).headed("Likeliest")
    table = pd.read_csv(folder / "blend" / "predictions.csv")
    table = table[table["compound"].notna()]
    confident = set(table.loc[table["confident"], "compound"])
    names = [row[0] for row in rows[1:]]
    assert sorted(names) == sorted(set(table["compound"]))
    assert 0 < len(confident) < len(names) and set(names[: len(confident)]) == confident
    first = table[(table["compound"] == names[0]) & (table["rank"] == 1)].iloc[0]
    assert rows[1][3] == first["mechanism"]
    assert rows[1][4] == f"{100 * first['probability']:.3g} %"
    assert rows[0][5:7] == ["Spread", "Spread of members"]
    assert rows[1][6] == f"{first['member_spread']:.2f}" != rows[1][5]
    assert "spread of members is that of what a model predicts" in Page(text).text
    assert [row[2] == "none" for row in rows[1:]] == [name not in confident for name in names]
    assert (
        f"{len(confident)} of {len(names)} compounds have a confident mechanism" in Page(text).text
    )


def test_predictions_that_an_earlier_version_wrote_are_shown(folder, tmp_path):
    """They say nothing of members."""
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    path = tmp_path / "blend" / "predictions.csv"
    pd.read_csv(path).drop(columns="member_spread").to_csv(path, index=False)
    found = said(tmp_path)
    assert "compounds have a confident mechanism" in found and "agree says that" not in found


def test_a_long_list_is_cut_and_says_so(folder, monkeypatch):
    monkeypatch.setattr(hits, "MOST_HITS", 4)
    html.write(folder / "short.html", records.collect(folder))
    page = Page((folder / "short.html").read_text(encoding="utf-8"))
    assert len(page.headed("Likeliest")) == 5
    assert "Listed are the 4 with confident mechanisms" in page.text


def test_long_tables_alone_are_laid_out_late(folder, text):
    """A browser that skips a short table would show a gap of a long one's height."""
    assert 'many"' not in text
    report = records.collect(folder)
    found = report.answers.hits
    for count, shape in ((101, "named many"), (501, "named many folded")):
        many = dataclasses.replace(found, shown=found.shown[:1] * count)
        answers = dataclasses.replace(report.answers, hits=many)
        html.write(folder / "long.html", dataclasses.replace(report, answers=answers))
        shapes = re.findall(
            'class="scroll (.* many.*?)"', (folder / "long.html").read_text("utf-8")
        )
        assert shapes == [f"sortable tall {shape}"]


def test_one_compound_has_a_verb_of_its_own(folder, tmp_path):
    report = records.collect(folder)
    one = dataclasses.replace(report.answers.hits, count=1, wells=2)
    answers = dataclasses.replace(report.answers, hits=one)
    for scored, asked in ((5, "mechanisms does 1 compound (2 wells) have"), (1, "Does 1 compound")):
        data = {**report.data, "scored": scored}
        html.write(
            tmp_path / "report.html", dataclasses.replace(report, answers=answers, data=data)
        )
        page = Page((tmp_path / "report.html").read_text(encoding="utf-8"))
        assert asked in " ".join(page.text.split())


def test_mechanisms_scores_and_drivers_are_shown(folder, text):
    page = Page(text)
    stored = files.read_json(folder / "blend" / "answers.json")
    scores = next(rows for rows in page.tables if rows[0][:2] == ["Model", "Log loss"])
    assert [row[0] for row in scores[1:]] == ["Each mechanism’s share baseline", "a", "b baseline"]
    assert scores[2][2].startswith(f"{stored['scores'][1]['above']:.5f} (")
    assert scores[3][-2] == "new wells of known compounds"
    mechanisms = page.headed("Enrichment")
    table = pd.read_csv(folder / "blend" / "mechanisms.csv")
    assert [int(row[2]) for row in mechanisms[1:]] == sorted(table["wells"], reverse=True)
    assert page.headed("Features, and their attributions")[1][2] == "g-2 -0.75 g-1 +0.5 g-3 +0.01"


@pytest.mark.parametrize(
    ("whole", "known", "other"),
    [
        ("compounds", "the score says how new compounds are predicted", "split=stratified"),
        ("compounds of at most 18 rows", "how new compounds of at most 18 wells are", "stratified"),
        ("rows", "the score says how new wells of known compounds", "data.groups=compound"),
    ],
)
def test_what_the_score_does_not_say_is_said_with_the_way_to_it(
    folder, tmp_path, whole, known, other
):
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    path = tmp_path / "blend" / "answers.json"
    stored = files.read_json(path)
    stored["scores"][0]["whole"] = whole
    files.write_json(path, stored)
    text = said(tmp_path)
    assert known in text
    assert other in text.partition("with a work folder of its own")[0]


def test_where_compounds_are_not_known_nothing_is_said_of_them(folder, tmp_path):
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    path = tmp_path / "blend" / "answers.json"
    stored = files.read_json(path)
    stored |= {"compounds": None, "rules": {"wells": stored["rules"]["wells"]}}
    stored["scores"][0]["whole"] = "rows"
    files.write_json(path, stored)
    found = said(tmp_path)
    assert "Log loss, new wells 0." in found and "wells of known compounds" not in found
    for words in ("95 % intervals over wells", "choice of wells explains", "other wells taught"):
        assert words in found


def test_without_out_of_fold_predictions_no_probability_is_called_calibrated(folder, tmp_path):
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    assert "Probabilities are calibrated on out-of-fold predictions." in said(tmp_path)
    for name in ("answers.json", "mechanisms.csv"):
        (tmp_path / "blend" / name).unlink()
    found = said(tmp_path)
    assert "Probabilities are as the models give them" in found and "are calibrated" not in found


def test_nothing_to_predict_and_nothing_called(folder, tmp_path):
    """Test rows may all be controls, and few wells allow no call."""
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    path, lines = tmp_path / "blend" / "answers.json", tmp_path / "blend" / "predictions.csv"
    stored = files.read_json(path)
    for rule in stored["rules"].values():
        rule |= {"calls": 0.0, "false_calls": 0.0, "share": 1.0}
    files.write_json(path, stored)
    assert "call anything, which takes at least 10 calls without a false one." in said(tmp_path)
    lines.write_text(lines.read_text(encoding="utf-8").partition("\n")[0] + "\n")
    found = said(tmp_path)
    assert "There is no treated well to predict." in found
    assert "Which of 5 mechanisms do new wells have" in found
    assert "Likeliest" not in found
    path = tmp_path / "config.json"
    stored = files.read_json(path)
    files.write_json(path, stored | {"data": stored["data"] | {"scored": 1}})
    assert "Do new wells have the mechanism, judged by annotated wells" in said(tmp_path)


def test_rules_of_an_earlier_version_may_call_what_is_likelier_false(folder, tmp_path):
    assert "none of them is less likely than not." in said(folder)
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    path = tmp_path / "blend" / "answers.json"
    stored = files.read_json(path)
    for rule in stored["rules"].values():
        rule["thresholds"][0] = 0.01
    files.write_json(path, stored)
    assert "a single one may be less likely than not." in said(tmp_path)


def test_the_page_needs_nothing_else(text):
    assert text.count("<script>") == 1
    assert not re.search(r"//|@import|url\(|src=|<[^>]* on\w+=", text)


def probed(page, width):
    """What the probe found of a page in a frame of some width."""
    text = page.read_text(encoding="utf-8")
    catch = "<script>window.errors = []; onerror = (e) => { window.errors.push(e); };</script>"
    path, frame = page.with_name("probed.html"), page.with_name("frame.html")
    text = text.replace("<head>", f"<head>{catch}").replace("</body>", f"{PROBE}</body>")
    path.write_text(text, encoding="utf-8")
    frame.write_text(FRAME.replace("{name}", path.name).replace("{width}", str(width)))
    command = [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--dump-dom",
               "--virtual-time-budget=5000", f"--user-data-dir={page.parent / 'profile'}",
               f"file://{frame}"]  # fmt: skip
    result = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    return json.loads(re.search("PROBE(.*)END", result.stdout)[1])


def opened(page, width):
    """Milliseconds from the start until a page is loaded and laid out, the best of three times."""
    clock = """<script>onload = () => {
      document.documentElement.scrollHeight;
      document.body.textContent = "CLOCK" + Math.round(performance.now()) + "END";
    };</script>"""
    text, path = page.read_text(encoding="utf-8"), page.with_name("clocked.html")
    path.write_text(text.replace("<head>", f"<head>{clock}"), encoding="utf-8")
    command = [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--dump-dom",
               f"--window-size={width},900", f"--user-data-dir={page.parent / 'profile'}",
               f"file://{path}"]  # fmt: skip
    runs = [subprocess.run(command, capture_output=True, text=True, timeout=120) for _ in range(3)]  # noqa: PLW1510
    return min(int(re.search(r"CLOCK(\d+)END", run.stdout)[1]) for run in runs)


@pytest.mark.slow
@pytest.mark.skipif(BROWSER is None, reason="needs chromium")
@pytest.mark.parametrize("width", [390, 1400])
def test_in_a_browser(folder, tmp_path, width):
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    path = tmp_path / "blend" / "answers.json"
    stored = files.read_json(path)
    other = [{n: s[n] for n in ("name", "log_loss", "low", "high")} for s in stored["scores"][1:]]
    files.write_json(path, stored | {"other_folds": {"whole": "compounds", "scores": other}})
    html.write(tmp_path / "report.html", records.collect(tmp_path))
    found = probed(tmp_path / "report.html", width)
    assert found["errors"] == [] and found["width"] <= width
    assert found["cut"] == 0 or width < 1000
    assert found["ascending"] == found["descending"][::-1] != found["before"]
    assert sorted(found["before"]) == sorted(found["ascending"])
    assert found["sorted"] == "descending"
    assert found["filtered"][0] == found["before"][0] and len(found["filtered"]) < 5
    total = len(found["before"])
    assert found["status"] == f"{len(found['confident'])} of {total} shown"
    assert 0 < len(found["confident"]) < total
    whole = [total, f"{total} of {total} shown"]
    assert found["first"] == whole and found["last"] == [*whole, True]


@pytest.mark.slow
def test_a_large_run_has_a_small_page(folder, tmp_path):
    """20,000 wells and 206 mechanisms."""
    names = [f"a_rather_long_name_of_a_mechanism_{i}" for i in range(206)]
    rng = np.random.default_rng(0)
    lines = pd.DataFrame(
        {
            "sig_id": np.repeat([f"id_{i:09x}" for i in range(20_000)], 10),
            "mechanism": rng.choice(names, 200_000),
            "probability": np.sort(rng.random((20_000, 10)), 1)[:, ::-1].ravel(),
            "rank": np.tile(np.arange(1, 11), 20_000),
            "confident": rng.random(200_000) < 0.2,
            "replicates": 1,
            "spread": np.nan,
            "model_spread": 0.5,
            "member_spread": 0.5,
        }
    )
    shutil.copytree(folder, tmp_path / "run")
    lines.to_csv(tmp_path / "run" / "blend" / "predictions.csv", index=False)
    table = pd.read_csv(folder / "blend" / "mechanisms.csv")
    table = pd.concat([table] * 42, ignore_index=True)[:206].assign(mechanism=names)
    table.to_csv(tmp_path / "run" / "blend" / "mechanisms.csv", index=False)
    page = tmp_path / "run" / "report.html"
    html.write(page, records.collect(tmp_path / "run"))
    assert page.stat().st_size < 10e6
    if BROWSER:
        start = time.monotonic()
        found = probed(page, 390)
        assert time.monotonic() - start < 30  # a browser's start and three sorts included
        assert found["width"] <= 390 and found["errors"] == []
        assert found["first"] == [200, "the first 200 of 2000 shown"] and found["again"] == 200
        assert len(found["confident"]) == found["every"] > 200
        assert found["last"] == [2000, "2000 of 2000 shown", True]
        assert max(opened(page, width) for width in (390, 1400)) < 3000


@pytest.mark.parametrize(
    ("kind", "counts", "asked"),
    [("compound", (1, 2), "1 compound (2 wells)"), ("well", (1, 1), "1 well"),
     ("compound", (2000, 1), "2,000 compounds (1 well)")],
)  # fmt: skip
def test_what_is_to_be_predicted_is_counted(kind, counts, asked):
    count, wells = counts
    assert Answers(hits=hits.Hits(kind, (), count, 0, wells)).asked() == asked
