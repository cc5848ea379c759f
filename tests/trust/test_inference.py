"""Inference: one reading of one file, all models together, and a folder that its content names."""

import dataclasses
import json
import os
import socket

import numpy as np
import pandas as pd
import pytest

from moa_jax.blend import stored_weights
from moa_jax.command import inference, inference_record, new_compounds
from moa_jax.command.known_rows import KnownRows
from moa_jax.config import BlendConfig, DataConfig, RunConfig
from moa_jax.data import simulate, tables
from moa_jax.engine import prediction
from moa_jax.errors import UserError
from moa_jax.recipes import simple_nn, three_stage_nn
from moa_jax.store import files
from moa_jax.store.predictions import Predictions
from moa_jax.store.workdir import Workdir

WEIGHTS = {"a": 0.25, "b": 0.75}
CHUNK = 128


class Case:
    """A work folder whose two models answer with constants, and a file of new rows."""

    def __init__(self, folder, monkeypatch, mean="probabilities"):
        simulate.write(
            folder / "data", rows=60, genes=3, cells=2, scored=2, nonscored=0, test_rows=300, seed=1
        )
        self.file = folder / "new.v1.csv"
        (folder / "data" / "test_features.csv").rename(self.file)
        self.workdir = Workdir(folder / "run")
        self.config = RunConfig(
            {"a": simple_nn.ORIGINAL["old"], "b": three_stage_nn.Config()},
            data=DataConfig(test_features=str(self.file)),
            blend=BlendConfig("fixed", weights=WEIGHTS, mean=mean),
        )
        parallel = dataclasses.replace(self.config.parallel, predict_rows=CHUNK)
        self.config = dataclasses.replace(self.config, parallel=parallel)
        self.workdir.bind(self.config, tables.load(folder / "data"), "vmap")
        for name in WEIGHTS:
            self.finish(name)
        self.weigh(WEIGHTS)
        self.num_stages, self.calls, self.meanwhile = [], [], lambda: None
        monkeypatch.setattr(prediction.system, "load", self._load)

    def finish(self, name, content=0):
        path = self.workdir.path / name / "metrics.json"
        files.write_json(path, content)
        self.workdir.manifest(name).add([path])

    def weigh(self, weights):
        record = {"run": self.workdir.run, "method": "fixed", "weights": weights}
        record |= {"mean": mean} if (mean := self.config.blend.mean) != "probabilities" else {}
        stored_weights.write(self.workdir.path, record)

    def _load(self, model, context, targets, num_stages):
        self.num_stages.append(num_stages)

        def predict(rows):
            self.calls.append((context.model, len(rows)))
            if len(self.calls) == 2:
                self.meanwhile()
            shape, value = (len(rows), len(targets)), {"a": 0.5, "b": 1.0}[context.model]
            return Predictions(rows.ids, targets, np.full(shape, value))

        return predict

    def infer(self, **data):
        del self.calls[:]
        data = dataclasses.replace(self.config.data, **data)
        workdir = Workdir(self.workdir.path)  # as another process sees it
        return inference.infer(dataclasses.replace(self.config, data=data), workdir)


@pytest.fixture
def case(tmp_path, monkeypatch):
    return Case(tmp_path, monkeypatch)


def test_every_part_goes_through_all_models_in_one_reading(case, monkeypatch):
    opened = []
    stream = tables.stream
    monkeypatch.setattr(tables, "stream", lambda *a: opened.append(a[0]) or stream(*a))
    submission = case.infer()
    assert opened == [case.file]
    parts = [(model, rows) for rows in (CHUNK, CHUNK, 300 - 2 * CHUNK) for model in WEIGHTS]
    assert case.calls == parts
    # A Simple NN has one stage, the chain without non-scored targets two.
    assert case.num_stages == [3, 3]
    found = Predictions.read(submission.parent / "b.parquet")
    assert len(found.ids) == 300 and (found.values == 1).all()
    lines = submission.read_text().splitlines()[1:]
    assert {line.split(",", 1)[1] for line in lines} == {"0.875,0.875"}


def test_new_rows_are_blended_by_the_configured_mean(tmp_path, monkeypatch):
    found = pd.read_csv(Case(tmp_path, monkeypatch, mean="log_odds").infer())
    odds = 0.75 * np.log((1 - 1e-7) / 1e-7)  # and a quarter of 0
    np.testing.assert_allclose(found.iloc[:, 1:], 1 / (1 + np.exp(-odds)), rtol=1e-9)


def test_another_mean_predicts_again(case, tmp_path):
    first = pd.read_csv(case.infer())
    blend = dataclasses.replace(case.config.blend, mean="log_odds")
    case.config = dataclasses.replace(case.config, blend=blend)
    case.workdir.bind(case.config, tables.load(tmp_path / "data"), "vmap")
    case.weigh(WEIGHTS)
    assert (pd.read_csv(case.infer()).iloc[:, 1:] > first.iloc[:, 1:]).all(None)


def test_the_record_says_what_was_made_of_what(case):
    folder = case.infer().parent
    digest = files.sha256(case.file)
    assert folder.name == f"new.v1.csv-{digest[:8]}"
    record = files.read_sealed(folder / "inference.json", "")
    assert record["input"] == {"bytes": case.file.stat().st_size, "sha256": digest}
    assert record["rows"] == 300 and record["run"] == case.workdir.read()["hash"]
    for name in ("a.parquet", "b.parquet", "submission.csv"):
        assert record["outputs"][name]["sha256"] == files.sha256(folder / name)
    manifest = case.workdir.manifest("a").path
    assert record["models"]["a"]["sha256"] == files.sha256(manifest)


def of_compounds(submission):
    """Numbers of wells of the compounds in the answers beside a submission."""
    table = pd.read_parquet(submission.parent / "predictions.parquet")
    assert table["sig_id"].notna().sum() == 2 * (table["sig_id"].nunique())
    of = table[table["compound"].notna()] if "compound" in table else table[:0]
    return {} if of.empty else of.groupby("compound")["replicates"].first().to_dict()


def named(case):
    """Makes up compounds of the treated rows, one of which has no name; returns their sizes."""
    rows = pd.read_csv(case.file)
    rows["drug_id"] = [f"d{i % 7}" for i in range(len(rows))]
    rows.loc[rows["cp_type"] == "ctl_vehicle", "drug_id"] = None
    lone = rows.index[rows["drug_id"].notna()][-1]
    rows.loc[lone, "drug_id"] = None
    sizes = rows["drug_id"].value_counts().to_dict() | {f"unknown_{rows['sig_id'][lone]}": 1}
    return rows, sizes


@pytest.mark.parametrize("column", ["drug_id", "compound"])
def test_compounds_of_new_rows_stand_in_a_column(case, column, caplog):
    rows, sizes = named(case)
    rows.rename(columns={"drug_id": column}).to_csv(case.file, index=False)
    assert of_compounds(case.infer()) == sizes
    assert "no compound is named for 1 rows: each counts as its own" in caplog.text


def test_compounds_of_new_rows_stand_in_a_file_beside_them(case, caplog):
    caplog.set_level("INFO", "absl")
    assert of_compounds(case.infer()) == {}
    assert "a column drug_id or compound, or a file test_drug beside them" in caplog.text
    rows, sizes = named(case)
    beside = case.file.with_name("test_drug.csv")
    rows[["sig_id", "drug_id"]].dropna().to_csv(beside, index=False)
    first = case.infer()
    assert case.calls and of_compounds(first) == sizes  # made again, as the compounds are new
    assert case.infer() == first and case.calls == []
    pd.DataFrame({"sig_id": ["other"], "drug_id": ["d0"]}).to_csv(beside, index=False)
    assert of_compounds(case.infer()) == {} and "it names none of the new rows" in caplog.text
    beside.with_suffix(".parquet").write_bytes(b"")
    with pytest.raises(UserError, match="one file test_drug, found test_drug.csv and test_drug.p"):
        case.infer()


@pytest.mark.parametrize("roles", [None, {"id": ["name"]}, {"id": []}])
def test_rows_that_are_called_as_training_rows_are_told(case, caplog, roles):
    new = tables.read_features(case.file)
    oof = Predictions(np.append(new.ids[200:203], "w"), ("x",), np.full((4, 1), 0.5))
    folder = case.workdir.path / "b"
    oof.write(folder / "oof.parquet")
    known = KnownRows(
        [case.workdir.path / "a", folder], None if roles is None else {"roles": roles}
    )
    for start in (0, 150):
        known.add(new.take(np.arange(start, start + 150)))
    known.tell()
    told = f"inference: 3 rows are called as training rows are, such as {new.ids[200]};"
    assert (told in caplog.text) == (roles != {"id": []})
    case.infer()
    assert caplog.text.count(told) == 1 + (roles != {"id": []})
    (folder / "oof.parquet").write_bytes(b"damaged")
    KnownRows([folder], None).tell()


def test_a_first_part_of_controls_does_not_tell_that_compounds_are_unknown(tmp_path):
    rows = simulate.make(rows=60, genes=3, cells=2, scored=2, nonscored=0, test_rows=60).test
    treated = rows.take(np.flatnonzero(~rows.is_control))
    path = tmp_path / "test_drug.csv"
    pd.DataFrame({"sig_id": treated.ids, "drug_id": "d"}).to_csv(path, index=False)
    compounds = new_compounds.NewCompounds(new_compounds.beside(path))
    assert compounds.of(rows.take(np.flatnonzero(rows.is_control))) is None
    assert set(compounds.of(treated)) == {"d"}


def test_compounds_that_change_meanwhile_leave_nothing(case):
    rows, _ = named(case)
    beside = case.file.with_name("test_drug.csv")
    rows[["sig_id", "drug_id"]].dropna().to_csv(beside, index=False)
    case.meanwhile = lambda: beside.write_text("sig_id,drug_id\n")
    with pytest.raises(UserError, match="test_drug.csv: another file than when it was first read"):
        case.infer()
    assert not (case.workdir.path / "infer").exists()


def test_what_was_made_is_not_made_again(case):
    first = case.infer()
    before = first.stat().st_mtime_ns
    assert case.infer() == first and case.calls == []
    assert first.stat().st_mtime_ns == before


def damaged_output(case, folder):
    (folder / "a.parquet").write_bytes(b"x")


def absent_output(case, folder):
    (folder / "submission.csv").unlink()


def damaged_record(case, folder):
    text = (folder / "inference.json").read_text()
    (folder / "inference.json").write_text(text.replace('"rows": 300', '"rows": 301'))


def other_model(case, folder):
    case.finish("b", content=1)


def other_weights(case, folder):
    case.weigh({"a": 0.75, "b": 0.25})
    case.config = dataclasses.replace(
        case.config, blend=dataclasses.replace(case.config.blend, weights={"a": 0.75, "b": 0.25})
    )
    case.workdir.bind(case.config, tables.load(case.file.parent / "data"), "vmap")


@pytest.mark.parametrize(
    "change", [damaged_output, absent_output, damaged_record, other_model, other_weights]
)
def test_what_differs_is_made_again(case, change):
    submission = case.infer()
    before = submission.read_bytes()
    change(case, submission.parent)
    assert case.infer() == submission and case.calls
    assert (submission.read_bytes() == before) == (change is not other_weights)
    assert case.infer() == submission and not case.calls


def test_two_files_never_share_a_folder(case):
    first = case.infer().parent
    other = case.file.with_name("new.v2.csv")
    lines = case.file.read_text().splitlines(keepends=True)
    other.write_text("".join(lines[:-1]))
    second = case.infer(test_features=str(other)).parent
    case.file.write_text("".join(lines[:-1]))
    third = case.infer().parent
    assert len({first, second, third}) == 3
    assert len(Predictions.read(first / "a.parquet").ids) == 300
    assert len(Predictions.read(third / "a.parquet").ids) == 299


def test_a_digest_that_begins_alike_gets_more_digits(case):
    folder = case.infer().parent
    record = files.read_sealed(folder / "inference.json", "")
    alike = record["input"]["sha256"][:16] + "0" * 48
    files.write_sealed(
        folder / "inference.json", record | {"input": record["input"] | {"sha256": alike}}
    )
    found = case.infer().parent
    assert found.name == f"new.v1.csv-{record['input']['sha256'][:16]}"
    assert files.read_sealed(folder / "inference.json", "")["input"]["sha256"] == alike


def replaced(path):
    new = path.with_name("other.csv")
    new.write_bytes(path.read_bytes())
    os.replace(new, path)


def changed(path):
    """Of the same size, and with its time set back."""
    status, content = path.stat(), bytearray(path.read_bytes())
    content[-2] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def cut(path):
    os.truncate(path, path.stat().st_size // 2)


def removed(path):
    path.unlink()


@pytest.mark.parametrize("change", [replaced, changed, cut, removed])
def test_a_file_that_changes_meanwhile_leaves_nothing(case, change):
    case.meanwhile = lambda: change(case.file)
    with pytest.raises(UserError, match="new.v1.csv: another file than when it was first read"):
        case.infer()
    assert case.calls and not (case.workdir.path / "infer").exists()


def test_a_mistake_late_in_the_file_leaves_nothing(case):
    with case.file.open("a") as opened:
        opened.write("id,trt_cp,24,D1,x,0,0,0,0\n")
    with pytest.raises(UserError, match="new.v1.csv: column g-0, sig_id id: expected a .*number"):
        case.infer()
    assert case.calls and not (case.workdir.path / "infer").exists()


def pipe(path):
    os.mkfifo(path)


def bound_socket(path):
    os.chdir(path.parent)  # its name may not be long
    socket.socket(socket.AF_UNIX).bind(path.name)


def device(path):
    path.symlink_to("/dev/zero")


def folder(path):
    path.mkdir()


def loop(path):
    path.symlink_to(path.name)


@pytest.mark.parametrize(
    ("make", "found"),
    [
        (pipe, "a pipe or a device"),
        (bound_socket, "a pipe or a device"),
        (device, "a pipe or a device"),
        (folder, "a folder"),
        (loop, "a symbolic link that leads nowhere"),
    ],
)
@pytest.mark.filterwarnings("ignore:unclosed.*socket")
def test_what_is_no_file_is_refused_at_once(case, monkeypatch, make, found):
    monkeypatch.chdir(case.file.parent)
    make(case.file.with_name("other.csv"))
    with pytest.raises(UserError, match=f"other.csv: expected a file, found {found}"):
        case.infer(test_features=str(case.file.with_name("other.csv")))
    assert not case.calls and not (case.workdir.path / "infer").exists()


@pytest.mark.parametrize("field", ["train_features", "train_drug", "test_features"])
def test_a_pipe_among_the_training_data_is_refused(case, field):
    path = case.file.parent / "data" / f"{field}.csv"
    path.unlink(missing_ok=True)
    os.mkfifo(path)
    with pytest.raises(UserError, match=f"{field}.csv: expected a file, found a pipe or a device"):
        tables.load(path.parent)


def test_pipes_and_endless_names_of_groups_are_refused(case):
    rows = tables.load(case.file.parent / "data")
    os.mkfifo(case.file.with_name("groups.csv"))
    with pytest.raises(UserError, match="groups.csv: expected a file, found a pipe or a device"):
        tables.read_groups(case.file.with_name("groups.csv"), rows)
    with pytest.raises(UserError, match="config.data.groups: expected auto, none, compound or a"):
        tables.read_groups("x" * 300, rows)
    with pytest.raises(UserError, match="config.data.groups: expected auto, none, .* found ''"):
        tables.read_groups("", rows)
    with pytest.raises(UserError, match=r"x: expected a file, found none \(File name too long"):
        case.infer(test_features="x" * 300)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("new.v1.csv", "new.v1.csv"),
        (".hidden.csv", "_hidden.csv"),
        ("-rf.csv", "_rf.csv"),
        ("a:b\n\\c\0.csv", "a_b__c_.csv"),
        ("caf\udce9.csv", "caf_.csv"),
        ("größe.csv", "größe.csv"),
    ],
)
def test_names_of_folders(name, expected):
    assert inference_record.folder_name(name, "0123abcd") == f"{expected}-0123abcd"


@pytest.mark.parametrize("name", ["x" * 255, "ß" * 127, "a" + "ß" * 127])
def test_long_names_of_files(tmp_path, name):
    for digits in inference_record.DIGITS:
        found = inference_record.folder_name(name, "0" * digits)
        assert 250 <= len(found.encode()) <= 255 and found.endswith("-" + "0" * digits)
        (tmp_path / found).mkdir()


def test_predictions_that_are_no_probabilities_are_never_written(case, monkeypatch):
    monkeypatch.setattr(
        prediction.system,
        "load",
        lambda model, context, targets, num_stages: (
            lambda rows: Predictions(rows.ids, targets, np.full((len(rows), len(targets)), 1.5))
        ),
    )
    with pytest.raises(UserError, match="expected probabilities between 0 and 1, found 1.5 for"):
        case.infer()
    assert not (case.workdir.path / "infer").exists()


def edited(**changes):
    return lambda record: {**record, **changes}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            edited(weights={"a": float("nan"), "b": 0.75}),
            "a weight of a between 0 and 1, found nan",
        ),
        (edited(weights={"a": 40, "b": 0.75}), "a weight of a between 0 and 1, found 40"),
        (edited(weights={"a": -3, "b": 4}), "a weight of a between 0 and 1, found -3"),
        (edited(weights={"a": True, "b": 0.0}), "a weight of a between 0 and 1, found True"),
        (edited(weights={"a": "0.25", "b": 0.75}), "a weight of a between 0 and 1, found 0.25"),
        (edited(weights={"a": 0.25, "b": 0.7}), "weights of sum 1, found 0.95"),
        (edited(weights={"a": 1.0}), r"weights of the models \['a', 'b'\], found \['a'\]"),
        (edited(weights={"a": 0.5, "b": 0.25, "c": 0.25}), r"found \['a', 'b', 'c'\]"),
        (edited(weights=[0.25, 0.75]), "found none"),
        (edited(weights={"a": {"x": 1.0}, "b": {"x": 0.0}}), "a weight of a for each target"),
        (edited(weights={"a": 0.75, "b": 0.25}), "expected the weights of config.blend.weights"),
        (edited(run="0123"), "expected weights of the run .*, found those of 0123"),
        (edited(method="slsqp"), "expected weights of blend.method=fixed, as .* found slsqp"),
        (edited(prior=3.0), "expected weights of blend.prior=0, as .* found 3.0"),
        (edited(mean="log_odds"), "weights of blend.mean=probabilities, as .* found log_odds"),
    ],
)
def test_weights_are_checked_when_inference_reads_them(case, change, message):
    record = {"run": case.workdir.run, "method": "fixed", "weights": WEIGHTS}
    stored_weights.write(case.workdir.path, change(record))
    with pytest.raises(UserError, match=f"weights.json: .*{message}.*; weigh the models again"):
        case.infer()
    assert not case.calls and not (case.workdir.path / "infer").exists()


def test_weights_that_were_edited_are_refused(case):
    path = case.workdir.path / "blend" / "weights.json"
    stored = json.loads(path.read_text())
    stored["weights"] = {"a": 0.26, "b": 0.74}
    path.write_text(json.dumps(stored))
    with pytest.raises(UserError, match="weights.json: damaged, its content is not what was wri"):
        case.infer()


@pytest.mark.parametrize("names", ["zq", "z"])
def test_weights_of_each_target_are_those_of_the_targets(tmp_path, names):
    by_target = {"a": dict.fromkeys(names, 0.25), "b": dict.fromkeys(names, 0.75)}
    stored_weights.write(tmp_path, {"weights": by_target})
    assert stored_weights.read(tmp_path, "ab", names)["weights"] == by_target
    for wrong in (names + "p", "p", names[:-1]):
        with pytest.raises(UserError, match="damaged, expected a weight of a for each target"):
            stored_weights.read(tmp_path, "ab", wrong)
    by_target["b"][names[-1]] = 0.5
    stored_weights.write(tmp_path, {"weights": by_target})
    with pytest.raises(UserError, match=f"damaged, expected {names[-1]}: weights of sum 1, found"):
        stored_weights.read(tmp_path, "ab", names)
