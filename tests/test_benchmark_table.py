"""The table of benchmarks: its clock, its processes, its lines and its JSON."""

import fcntl
import functools
import importlib
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[1]
SECONDS = {"ours": 2.0, "peer": 6.0}


@pytest.fixture(scope="module", autouse=True)
def checkout():
    sys.path.insert(0, str(ROOT))
    yield
    sys.path.remove(str(ROOT))


def module(name):
    return importlib.import_module(f"benchmarks.{name}")


class Clock:
    """Time that passes only in runs, and by how much in every turn of each."""

    def __init__(self):
        self.now, self.runs = 0.0, []

    def __call__(self):
        return self.now

    def side(self, name, size, count=1.0, work=None):
        def run():
            self.runs.append(name)
            self.now += SECONDS[name] + self.runs.count(name)

        return module("row").Side(run, count, work)


def row(clock, **other):
    row = module("row")
    work = row.Work(flops=4e9, moved=1e9)
    peers = {
        "peer": row.Peer(functools.partial(clock.side, "peer", count=4)),
        "absent": row.Peer(functools.partial(clock.side, "peer"), ("no_such_module",), "absent-x"),
    }
    ours = functools.partial(clock.side, "ours", count=2, work=work)
    return row.Row("fake.step", "a step", "ms", **{"ours": ours, "peers": peers, **other})


def measured(row, clock, size="quick", seconds=None):
    clocks = {"wall": clock, "processor": lambda: 0.0}
    return module("timing").measured(row, size, clocks, seconds)


def test_sides_take_turns_after_a_first_run_that_is_left_out():
    clock = Clock()
    found = measured(row(clock), clock)
    assert clock.runs == ["ours", "peer"] * 4
    assert found["ours"] == {"wall": [4.0, 5.0, 6.0], "processor": [0.0] * 3, "count": 2}
    assert found["peers"] == {
        "peer": {"wall": [8.0, 9.0, 10.0], "processor": [0.0] * 3, "count": 4},
        "absent": {"missing": "not installed: pip install absent-x"},
    }
    assert not found["error"]


def test_a_row_may_settle_or_run_once_cold():
    clock = Clock()
    assert measured(row(clock, settles=True, most=1), clock)["ours"]["wall"] == [5.0]
    assert clock.runs == ["ours", "peer", "ours", "ours", "peer", "peer"]
    clock = Clock()
    assert measured(row(clock, warms=False, most=1), clock)["ours"]["wall"] == [3.0]
    assert clock.runs == ["ours", "peer"]


@pytest.mark.parametrize(("seconds", "turns"), [(1.0, 1), (33.0, 1), (34.0, 2), (99.0, 3)])
def test_a_row_takes_no_turn_beyond_its_time(seconds, turns):
    """A first run of 3 and 7 s, then turns of 12, 14 and 16: none that would end too late."""
    clock = Clock()
    found = measured(row(clock), clock, seconds=seconds)
    assert [len(one["wall"]) for one in (found["ours"], found["peers"]["peer"])] == [turns] * 2


def test_ratios_bounds_and_lines():
    clock, table = Clock(), module("table")
    names = ("float32", "float64", "copy")
    rates = [dict(zip(names, one, strict=True)) for one in ((1e9, 1e9, 1e9), (2e9, 0.0, 0.0))]
    found = table.record([measured(row(clock), clock)], rates, MACHINE, {"python": "3"}, "quick")
    own = found["rows"][0]
    assert found["peaks"] == {"float32": 2e9, "float64": 1e9, "copy": 1e9}
    # 5 s of two units and 9 s of four; the quartiles are 4.5 and 5.5 s.
    assert own["ours"]["median"] == 2500 and own["ours"]["spread"] == 250
    assert own["peers"]["peer"]["ratio"] == {"wall": pytest.approx(0.9)}
    assert own["bound"] == {"seconds": 2.0, "by": "products", "share": 0.5}
    assert found.keys() == {"size", "machine", "versions", "peaks", "rows"}
    assert own.keys() == {"name", "what", "unit", "ours", "work", "peers", "error", "bound"}
    assert json.loads(json.dumps(found)) == found
    said = list(table.lines(found))
    assert said[2:4] == [
        "| `fake.step` a step | ms | 2500 ± 250 | peer | 2250 ± 125 | 0.90 |  | 50% products |",
        "|  | ms |  | absent | not installed: pip install absent-x |  |  |  |",
    ]
    assert "load 3.0, which others use too" in said[-2] and table.is_whole(found)


MACHINE = {
    "date": "2026", "processor": "one", "cores": 2, "memory": "8 GiB", "system": "Linux",
    "load": 3.0,
}  # fmt: skip


def test_an_error_is_told_and_leaves_the_other_sides():
    clock, row_of, table = Clock(), module("row"), module("table")

    def late(size):
        def run():
            raise ValueError("no luck\nat all")

        return row_of.Side(run)

    def early(size):
        raise ValueError("none")

    peers = {"late": row_of.Peer(late), "early": row_of.Peer(early)}
    peers["peer"] = row_of.Peer(functools.partial(clock.side, "peer"))
    found = measured(row(clock, peers=peers), clock)
    assert len(found["ours"]["wall"]) == len(found["peers"]["peer"]["wall"]) == 3
    assert found["error"] == "early: ValueError: none; late: ValueError: no luck"
    assert not table.is_whole(table.record([found], [], MACHINE, {}, "quick"))
    failed = measured(row(clock, ours=early), clock)
    assert failed["ours"] is None and failed["error"] == "ValueError: none"
    said = list(table.lines(table.record([failed], [], MACHINE, {}, "quick")))
    assert "failed, see below" in said[2] and "fake.step: ValueError: none" in said


def test_a_row_that_says_nothing_without_its_peer_is_not_run():
    clock = Clock()
    peers = {"absent": module("row").Peer(early_exit, ("no_such_module",))}
    found = measured(row(clock, peers=peers, beside=True), clock)
    assert not clock.runs and found["ours"] is None and not found["error"]
    table = module("table")
    said = list(table.lines(table.record([found], [], MACHINE, {}, "quick")))
    assert "not installed: pip install no_such_module" in said[2]


def early_exit(size):
    raise AssertionError


WORKER = """
import fcntl, json, os, subprocess, sys, time
options = dict(word[2:].split("=", 1) for word in sys.argv[1:])
for line in sys.stdin:
    name, *seconds = line.split()
    if name == "b.ends":
        print("luck was there", file=sys.stderr)
        sys.exit("out of luck")
    if name == "b.leaves":
        held, nowhere = open(os.environ["HELD"], "w"), subprocess.DEVNULL
        fcntl.flock(held, fcntl.LOCK_EX)
        subprocess.Popen(["sleep", "60"], pass_fds=[held.fileno()], stdout=nowhere, stderr=nowhere)
        sys.exit("left")
    if name.endswith(".waits"):
        time.sleep(60)
    ours = {"wall": [time.monotonic()], "size": options["size"], "process": os.getpid()}
    ours["seconds"] = float(*seconds) if seconds else None
    print(json.dumps({"name": name, "ours": ours}), flush=True)
print(json.dumps({"rates": {"copy": 1.0}}), flush=True)
"""


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Runs rows of some names in processes that only write what they were told."""
    (tmp_path / "fake_worker.py").write_text(WORKER)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))

    def run(names, seconds):
        rows = [module("row").Row(name, "", "s", early_exit) for name in names]
        found, rates = module("running").run(rows, "tiny", seconds, "fake_worker")
        assert [one["name"] for one in found] == list(names)
        return {one["name"]: one for one in found}, rates

    return run


def test_a_process_that_ends_costs_its_row_alone(run):
    found, rates = run(("a.one", "b.first", "b.ends", "b.last"), None)
    assert len(rates) == 2
    for name in ("a.one", "b.first", "b.last"):
        assert found[name]["ours"]["size"] == "tiny" and not found[name]["error"]
    process = {name: found[name]["ours"]["process"] for name in ("a.one", "b.first", "b.last")}
    assert len(set(process.values())) == 3
    assert found["b.ends"]["error"] == "its process ended with status 1: out of luck"


def test_what_a_process_leaves_behind_is_ended(run, tmp_path, monkeypatch):
    """The lock is held by the process that it has started, as long as that is there."""
    path = tmp_path / "held"
    monkeypatch.setenv("HELD", str(path))
    found, _ = run(("b.leaves",), None)
    assert found["b.leaves"]["error"].endswith("left")
    end = time.monotonic() + 10
    with path.open() as held:
        while True:
            try:
                fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                assert time.monotonic() < end, "it goes on"
                time.sleep(0.01)


def test_every_group_has_its_first_row_before_any_has_its_second(run):
    """Where time is limited; the process of a group waits for its next row."""
    names = ("a.one", "a.two", "a.three", "b.one", "b.two", "c.one")
    for seconds, order in (
        (60.0, ("a.one", "b.one", "c.one", "a.two", "b.two", "a.three")),
        (None, names),
    ):
        found, rates = run(names, seconds)
        assert tuple(sorted(names, key=lambda name: found[name]["ours"]["wall"])) == order
        assert len({found[name]["ours"]["process"] for name in names}) == len(rates) == 3
        # First rows share the time among themselves, the others what is left.
        shares = {name: found[name]["ours"]["seconds"] for name in names}
        if seconds is None:
            assert set(shares.values()) == {None}
        else:
            assert 15 < shares["a.one"] <= 20 and 40 < shares["c.one"] <= 60
            assert 10 < shares["a.two"] <= 20 and 30 < shares["a.three"] <= 60
        assert found["a.one"]["ours"]["process"] == found["a.three"]["ours"]["process"]


def test_what_has_not_ended_in_time_is_left_out(run):
    start = time.monotonic()
    found, _ = run(("c.waits", "c.later", "d.waits"), 1.0)
    assert time.monotonic() - start < 30
    assert all(one["left_out"] and not one["error"] for one in found.values())


@pytest.mark.slow
def test_a_slow_group_leaves_the_others_their_time(run):
    """It has two thirds of the time, the next one what is left of it, and this is enough."""
    found, _ = run(("c.waits", "d.one", "e.one"), 15.0)
    assert found["c.waits"]["left_out"]
    assert found["d.one"]["ours"] and found["e.one"]["ours"]


def test_names_are_rows_or_groups():
    registry = module("registry")
    names = [row.name for row in registry.chosen(["folds", "blend.slsqp"], "quick")]
    assert names == ["folds.stratified", "blend.slsqp"]
    known = registry.rows()
    assert len(known) == sum(len(one.ROWS) for one in registry.MODULES)
    quick, full = (registry.chosen([], size) for size in ("quick", "full"))
    assert len(full) == len(known) and {r.name for r in quick} < known.keys()
    assert {row.group for row in full} == {
        "simple_nn", "tabnet", "two_heads", "efficientnet_b3", "resnest", "convolutions", "images",
        "transforms", "folds", "blend", "reading", "inference", "quality", "start",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--only=tranforms"], "--only=tranforms: expected a row or one of"),
        (["--growth", "--only=row"], "--growth --only=row: expected one of rows, features"),
    ],
)
def test_unknown_names_are_one_line(words, expected, capsys):
    assert module("__main__").main(words) == 1
    said = capsys.readouterr()
    assert not said.out and said.err.count("\n") == 1 and expected in said.err
    assert "did you mean" in said.err


@pytest.mark.parametrize("words", [["--minutes=0"], ["--growth", "--minutes=-1"]])
def test_no_time_is_one_line(words, capsys):
    assert module("__main__").main(words) == 1
    assert capsys.readouterr().err == (
        f"benchmarks: --minutes: expected more than 0, found {words[-1].split('=')[1]}\n"
    )


def test_the_command_writes_table_and_json(tmp_path, monkeypatch, capsys):
    main, running = module("__main__"), module("running")
    clock, given = Clock(), []
    found = measured(row(clock), clock)

    def run(rows, size, seconds):
        given.append((len(rows), size, seconds))
        return [found], [{"float32": 1e9, "float64": 1e9, "copy": 1e9}]

    monkeypatch.setattr(running, "run", run)
    out = tmp_path / "found.json"
    assert main.main(["--quick", f"--out={out}"]) == 0
    assert main.main(["--quick", "--only=folds", "--minutes=2", f"--out={out}"]) == 0
    quick = len(module("registry").chosen([], "quick"))
    assert given == [(quick, "quick", 300.0), (1, "quick", 120.0)]
    assert "| `fake.step` a step |" in capsys.readouterr().out
    assert json.loads(out.read_text())["rows"][0]["peers"]["peer"]["ratio"]["wall"] > 0
    found["error"] = "ours: no"
    assert main.main([f"--out={out}"]) == 1 and given[-1][1:] == ("full", None)


def test_a_worker_writes_a_line_for_each_row():
    command = [sys.executable, "-m", "benchmarks.worker", "--size=tiny"]
    asked = "folds.stratified\nblend.slsqp\n"
    said = subprocess.run(
        command, cwd=ROOT, check=True, input=asked, stdout=subprocess.PIPE, text=True
    )
    *rows, last = map(json.loads, said.stdout.splitlines())
    assert [one["name"] for one in rows] == ["folds.stratified", "blend.slsqp"]
    assert all(len(one["ours"]["wall"]) == 1 and not one["error"] for one in rows)
    assert last["rates"].keys() == {"copy", "float32", "float64"}


def test_products_are_those_of_stages_that_predict_new_rows(tmp_path):
    for stage, files in {"start": (), "last": ("test.parquet",)}.items():
        (tmp_path / stage / "members").mkdir(parents=True)
        np.savez(tmp_path / stage / "members" / "a.npz", kernel=np.ones((3, 5)), bias=np.ones(5))
        for name in files:
            (tmp_path / stage / name).touch()
    assert module("inference").flops_of(tmp_path) == 2 * 3 * 5


def test_growth_has_exponents_reasons_and_a_picture():
    growth, picture = module("growth"), module("picture")
    points = [
        {"value": n, "transforms": 1e-6 * n**2, "epoch": 0.1 * n, "memory": 8e6} for n in (10, 100)
    ]
    axes = {"features": points, "rows": [*points, {"value": 1000, "error": "status 1: no"}]}
    found = {"axes": axes, "base": {"rows": 5}, "machine": MACHINE}
    said = list(growth.lines(found))
    reason = growth.REASONS["features", "transforms"]
    assert f"| features | transforms | 10: 0.0001 s | 100: 0.01 s | 2.00 | {reason} |" in said
    assert "| rows | transforms | 10: 0.0001 s | 100: 0.01 s | 2.00 | not explained |" in said
    assert "| rows | epoch | 10: 1 s | 100: 10 s | 1.00 |  |" in said
    assert "| rows | memory | 10: 7.63 MiB | 100: 7.63 MiB | 0.00 |  |" in said
    assert "rows 1,000: status 1: no" in said
    grown = [{"value": n, "memory": 1e8 + 700 * n} for n in (10, 100, 500)]
    said = list(growth.lines({**found, "axes": {"inference": grown, "rows": points}}))
    assert "Memory of inference: 700 bytes for each row more." in said
    assert "Memory of training: 0 bytes for each row more." in said
    drawn = picture.svg({axis: growth.measures(points) for axis, points in axes.items()})
    assert drawn.count('class="title"') == 6 and drawn.count("<polyline") == 12
    assert "transforms over features" in drawn and drawn.endswith("</svg>\n")


def test_growth_changes_one_size_at_a_time(monkeypatch, tmp_path):
    growth, given = module("growth"), []

    def run(command, env, seconds):
        given.append((command[3:], env.get("JAX_NUM_CPU_DEVICES")))
        assert seconds is None
        return subprocess.CompletedProcess(
            command, int(len(given) == 2), '{"epoch": 1.5}\n', "a\nb\n"
        )

    monkeypatch.setattr(growth, "in_time", run)
    out = tmp_path / "growth.json"
    assert growth.main(["labels", "devices"], "quick", out) == 1
    base = growth.BASES["quick"]
    labels = [dict(base) | {"labels": n} for n in growth.POINTS["quick"]["labels"]]
    devices = [dict(base) | {"members": 8}] * 3
    flags = [[f"--{name}={n}" for name, n in sizes.items()] for sizes in (*labels, *devices)]
    assert given == list(zip(flags, ["1"] * 3 + ["1", "2", "4"], strict=True))
    points = json.loads(out.read_text())["axes"]
    assert points.keys() == {"labels", "devices"}
    assert points["labels"][1] == {"value": 20, "error": "status 1: b"}
    assert points["devices"][2] == {"value": 4, "epoch": 1.5}
    assert out.with_suffix(".svg").exists()


def test_growth_ends_in_time_with_the_smallest_points_of_all_axes(monkeypatch, tmp_path, capsys):
    growth, given = module("growth"), []

    def run(command, env, seconds):
        given.append([word for word in command if word.startswith(("--labels", "--members"))])
        assert 0 < seconds <= 60
        if len(given) < 4:
            return subprocess.CompletedProcess(command, 0, '{"epoch": 1.5}\n', "")
        monkeypatch.setattr(growth.time, "monotonic", lambda now=growth.time.monotonic: now() + 99)
        return None

    monkeypatch.setattr(growth, "in_time", run)
    out = tmp_path / "growth.json"
    assert growth.main(["labels", "members"], "quick", out, 60) == 0
    sizes = [(5, 2), (10, 1), (20, 2), (10, 3)]
    assert given == [[f"--labels={n}", f"--members={m}"] for n, m in sizes]
    labels, members = json.loads(out.read_text())["axes"].values()
    left_out = {"left_out": "left out, the time was over"}
    done = {"epoch": 1.5}
    assert labels == [{"value": 5, **done}, {"value": 20, **done}, {"value": 80, **left_out}]
    assert members == [{"value": 1, **done}, {"value": 3, **left_out}, {"value": 9, **left_out}]
    assert "members 3: left out, the time was over" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("error", "point", "status"),
    [
        (subprocess.TimeoutExpired("launch", 1), {"left_out": "left out, the time was over"}, 0),
        (RuntimeError("launch: status 1: no"), {"error": "launch: status 1: no"}, 1),
    ],
)
def test_growth_goes_on_where_a_run_could_not_be_trained(
    monkeypatch, tmp_path, error, point, status
):
    growth, out = module("growth"), tmp_path / "growth.json"

    def trained(name, size, seconds):
        assert 0 < seconds <= 60
        raise error

    monkeypatch.setattr(growth.finished, "trained", trained)
    assert growth.main(["inference"], "quick", out, 60) == status
    points = json.loads(out.read_text())["axes"]["inference"]
    assert points == [{"value": n, **point} for n in growth.POINTS["quick"]["inference"]]


def test_what_takes_too_long_is_ended_with_what_it_has_started(tmp_path):
    in_time, there = module("running").in_time, tmp_path / "there"
    command = ["sh", "-c", f"(sleep 1; touch {there}); true"]
    assert in_time(command, {**os.environ}, 0.3) is None
    time.sleep(1.2)
    assert not there.exists()
    done = in_time(["sh", "-c", "echo 1; echo 2 >&2; exit 3"], {**os.environ}, None)
    assert (done.returncode, done.stdout, done.stderr) == (3, "1\n", "2\n")


GROUPS = (
    "simple_nn", "tabnet", "two_heads", "efficientnet_b3", "resnest", "images", "transforms",
    "reading", "start", "inference", "quality", "convolutions",
)  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("group", GROUPS)
def test_every_row_runs(group):
    """Both sides of every row, where the peer is installed, at a size that takes seconds."""
    registry = module("registry")
    rows = [row for row in registry.rows().values() if row.group == group]
    found, rates = module("running").run(rows, "tiny", None)
    assert rates and {one["name"]: one["error"] for one in found} == {r.name: "" for r in rows}
    for one, described in zip(found, rows, strict=True):
        there = [name for name, peer in described.peers.items() if not peer.missing]
        assert [name for name, side in one["peers"].items() if "wall" in side] == there


@pytest.mark.slow
def test_growth_measures_points(tmp_path):
    out = tmp_path / "growth.json"
    command = ["--growth", "--quick", "--only=labels,devices,inference", f"--out={out}"]
    done = subprocess.run([sys.executable, "-m", "benchmarks", *command], cwd=ROOT)
    axes = json.loads(out.read_text())["axes"]
    assert done.returncode == 0, axes
    assert all(
        {"folds", "transforms", "epoch", "predict", "memory"} < point.keys()
        for point in (*axes["labels"], *axes["devices"])
    )
    assert all(point["infer"] > 0 and point["memory"] > 1e8 for point in axes["inference"])
