"""metrics.jsonl: a torn end is passed over and cut, anything else that is broken is one line."""

import json

import pytest

from moa_jax.errors import UserError
from moa_jax.report import answers_record, findings
from moa_jax.training.progress import MetricsLog

RECORDS = [
    {"stage": stage, "group": 0, "epoch": epoch, "seed": 0, "fold": 1, "train_loss": 0.5,
     "valid_loss": 0.25}
    for stage in ("a/scored", "b/scored")
    for epoch in (1, 2)
]  # fmt: skip


@pytest.fixture
def log(tmp_path):
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(r) + "\n" for r in RECORDS))
    return MetricsLog(tmp_path, tensorboard=False)


@pytest.mark.parametrize("end", ['{"stage": "b/sco', "{}\n", "\x00\x00", "[" * 100_000, '{"a": 1}'])
def test_a_torn_end_is_passed_over_and_cut(log, tmp_path, end):
    path = tmp_path / "metrics.jsonl"
    whole = path.read_text()
    path.write_text(whole + end)
    assert log.read() == RECORDS
    assert [curve.epochs for curve in findings.collect(tmp_path).curves] == [(1, 2)] * 2
    log.cut_back("c/scored", 0, 0)
    assert path.read_text() == whole


def test_a_last_line_without_its_end_is_kept(log, tmp_path):
    path = tmp_path / "metrics.jsonl"
    whole = path.read_text()
    path.write_text(whole[:-1])
    log.cut_back("b/scored", 0, 1)
    assert log.read() == RECORDS[:3]


@pytest.mark.parametrize(
    "broken",
    [
        "",
        "{",
        "[1]",
        "3",
        '{"stage": 1}',
        "\xff",
        *(
            json.dumps(RECORDS[0] | {name: value})
            for name, value in (
                ("epoch", "1"),
                ("epoch", 10**30),
                ("group", -1),
                ("valid_loss", float("inf")),
                ("valid_loss", float("nan")),
                ("valid_loss", 10**400),
                ("train_loss", 10**400),
            )
        ),
    ],
)
def test_another_broken_line_is_named(log, tmp_path, broken):
    path = tmp_path / "metrics.jsonl"
    lines = path.read_text().splitlines()
    lines[1] = broken
    path.write_text("\n".join(lines) + "\n", encoding="latin-1")
    for call in (log.read, lambda: log.cut_back("a", 0, 0), lambda: findings.collect(tmp_path)):
        with pytest.raises(UserError, match="metrics.jsonl: line 2: damaged, .*; delete the file"):
            call()


@pytest.mark.parametrize("name", ["train_loss", "valid_loss"])
@pytest.mark.parametrize("loss", [0, -0.5, 1e-320, 1e308])
def test_losses_of_any_size_are_drawn(log, tmp_path, name, loss):
    log.write([RECORDS[0] | {"stage": "c", name: loss}])
    assert "<svg" in findings.collect(tmp_path).curves[-1].chart().svg()


@pytest.mark.parametrize("loss", [float("inf"), float("nan")])
def test_training_losses_that_overflow_are_left_out(log, tmp_path, loss):
    log.write([RECORDS[0] | {"stage": "c", "train_loss": loss}])
    chart = findings.collect(tmp_path).curves[-1].chart()
    assert chart.marks["line second"] == [] and "<svg" in chart.svg()


def test_what_is_no_file_is_one_line(log, tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.unlink()
    assert log.read() == []
    path.symlink_to("nowhere")
    for call in (log.read, lambda: log.cut_back("a", 0, 0)):
        with pytest.raises(UserError, match="found a symbolic link that leads nowhere"):
            call()


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("analysis.json", "[1]"),
        ("analysis.json", '{"calibration": 3}'),
        ("analysis.json", '{"oof": {"models": []}}'),
        ("analysis.json", '{"maps": [{"name": "a"}]}'),
        ("answers.json", "[1]"),
        ("answers.json", '{"scores": 3}'),
        ("mechanisms.csv", "mechanism,wells\na,1\n"),
        ("mechanisms.csv", "mechanism,wells,log_loss\na,one,0.1\n"),
        ("predictions.csv", ""),
        ("predictions.csv", "sig_id,mechanism\na,b\n"),
        ("attributions.parquet", "x"),
        ("targets.csv", ""),
        ("targets.csv", "target,positives\na,1\n"),
        ("targets.csv", "target,positives,loss,mean_prediction,loss of a\na,1,high,0.1,0.2\n"),
        ("targets.csv", "target,positives,loss,mean_prediction,loss of a\na,1,0.1,0.1,\xff\n"),
    ],
)
def test_what_the_report_cannot_read_is_named(tmp_path, name, content):
    (tmp_path / "blend").mkdir()
    (tmp_path / "blend" / name).write_text(content, encoding="latin-1")
    with pytest.raises(UserError, match=f"blend/{name}: damaged") as raised:
        findings.collect(tmp_path)
        answers_record.collect(tmp_path)
    assert "\n" not in str(raised.value)
