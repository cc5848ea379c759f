"""Several processes: what the first says, files that others see late, and the end of one."""

import json
import os
import signal
import threading

import pytest

from moa_jax import config as configuration
from moa_jax.config import RunConfig
from moa_jax.errors import UserError
from moa_jax.store import arrival, ending, files, peers, processes, signals
from moa_jax.store.workdir import ROWS, Workdir
from moa_jax.training.progress import MetricsLog


class Ended(Exception):
    """Stands for the end of a process."""


@pytest.fixture
def second(monkeypatch):
    """This process is the second; returns what the first says, in order, to be filled."""
    said = []
    monkeypatch.setattr(processes, "are_several", lambda: True)
    monkeypatch.setattr(processes, "is_first", lambda: False)
    monkeypatch.setattr(processes, "wait", lambda where: None)
    monkeypatch.setattr(processes, "said_by_first", lambda own: said.pop(0))
    monkeypatch.setattr(arrival, "LONGEST_SECONDS", 0.2)
    return said


def later(function):
    """Has something done by another process, soon."""
    threading.Timer(0.1, function).start()


@pytest.mark.parametrize("length", [0, 1, 900, 1020, 1021, 5000])
def test_all_hear_what_the_first_says(monkeypatch, length):
    from jax.experimental import multihost_utils

    exchanged = []

    def broadcast(own):
        exchanged.append(own)
        return own

    monkeypatch.setattr(processes, "are_several", lambda: True)
    monkeypatch.setattr(multihost_utils, "broadcast_one_to_all", broadcast)
    monkeypatch.setattr(processes, "is_first", lambda: True)
    assert processes.said_by_first({"é": "x" * length}) == {"é": "x" * length}
    # Another one gives arrays of the same sizes, or the exchange would not end.
    sent = list(exchanged)
    monkeypatch.setattr(multihost_utils, "broadcast_one_to_all", lambda own: both(own, sent))
    monkeypatch.setattr(processes, "is_first", lambda: False)

    def both(own, sent):
        first = sent.pop(0)
        assert own.shape == first.shape and not own.any()
        return first

    assert processes.said_by_first("mine") == {"é": "x" * length}
    assert not sent


def test_alone_everyone_is_the_first():
    assert processes.said_by_first((1, None)) == (1, None)


def test_a_file_is_waited_for(tmp_path, second):
    path, theirs = tmp_path / "a.json", tmp_path / "theirs"
    theirs.write_text('{"is": "new"}')
    path.write_text('{"is": "old"}')
    second.append(list(arrival.content(theirs)))
    later(lambda: os.replace(theirs, path))
    files.write_json(path, {"is": "mine"})
    assert path.read_text() == '{"is": "new"}'


def test_a_file_that_does_not_come_is_told(tmp_path, second):
    second.append(["", 3, "0" * 64])
    (tmp_path / "a.json").write_text("old")
    with pytest.raises(UserError, match=r"a\.json: expected the file .* after \d s; the work fold"):
        files.write_json(tmp_path / "a.json", {})


def test_removal_is_waited_for(tmp_path, second):
    kept, gone = tmp_path / "1", tmp_path / "2.tmp"
    kept.mkdir()
    gone.touch()
    second.append(["2.tmp"])
    later(gone.unlink)
    files.remove_each(tmp_path, lambda: [kept])
    assert [path.name for path in tmp_path.iterdir()] == ["1"]
    second.append(["."])
    with pytest.raises(UserError, match="expected nothing, as the first process removed it"):
        files.remove_all(kept)


def test_a_work_folder_is_seen_whole_before_the_run(tmp_path, second):
    there = tmp_path / "run" / "model" / "config.json"
    there.parent.mkdir(parents=True)
    there.write_text("{}")
    shown = [list(content) for content in arrival.contents(tmp_path / "run", [there])]
    assert shown[0][:2] == ["model/config.json", 2]
    there.unlink()
    second.append(shown)
    later(lambda: there.write_text("{}"))
    Workdir(tmp_path / "run").lock()
    assert there.exists()
    second.append([["of another folder", 2, ""]])
    with pytest.raises(UserError, match="must be one that all hosts share"):
        Workdir(tmp_path / "run").lock()


def test_the_first_tells_what_is_in_the_work_folder(tmp_path, monkeypatch):
    said = []

    def say(value):
        said.append(value)
        return []

    monkeypatch.setattr(processes, "are_several", lambda: True)
    monkeypatch.setattr(processes, "is_first", lambda: True)
    monkeypatch.setattr(processes, "wait", lambda where: None)
    monkeypatch.setattr(processes, "said_by_first", say)
    (tmp_path / "large").write_bytes(bytes(arrival.MOST_HASHED + 1))
    workdir = Workdir(tmp_path)
    workdir.lock()
    workdir.unlock()
    told = {name: (size, bool(sha256)) for name, size, sha256 in said[0]}
    assert told["large"] == (arrival.MOST_HASHED + 1, False)
    assert told[".lock"][1]


def test_what_is_resolved_is_the_first_ones(tmp_path, second, monkeypatch):
    found = Workdir(tmp_path)
    monkeypatch.setattr(Workdir, "read", lambda self: {"resolved": {}})
    monkeypatch.setattr(files, "write_sealed", lambda path, stored: None)
    second.append(3)
    assert found.resolved("stage: members_at_once", 8) == 3


def test_what_is_asked_for_takes_the_place_of_what_was_resolved(tmp_path):
    found = Workdir(tmp_path)
    files.write_sealed(
        tmp_path / "config.json",
        {"version": 6, "config": {}, "fields": {}, "hash": "", "data": {}, "resolved": {}},
    )
    assert found.resolved("s", 4) == 4
    assert found.resolved("s", 9) == 4
    assert found.resolved("s", 2, asked=True) == 2
    assert found.resolved("s", 9) == 2


def test_processes_with_other_data_are_told(tmp_path, second):
    class Rows:
        test = None

        def fingerprint(self):
            return "mine"

    same = configuration.effective(RunConfig({})) | dict.fromkeys(ROWS, "none")
    second.append(same | {"data: training rows": "theirs"})
    with pytest.raises(UserError, match="expected all processes to have the same .*: theirs there"):
        Workdir(tmp_path).bind(RunConfig({}), Rows(), "shard_map")
    assert not list(tmp_path.iterdir())


def test_a_log_that_only_the_first_sees_is_cut_by_all(tmp_path, second):
    theirs = tmp_path / "theirs"
    theirs.touch()
    second += [True, list(arrival.content(theirs))]
    later(lambda: os.replace(theirs, tmp_path / "metrics.jsonl"))
    MetricsLog(tmp_path, tensorboard=False).cut_back("stage", 0, 0)
    assert not second, "a process that sees no log must come to where the others wait"


class Store:
    """The coordinator's store of a run, as far as it is used."""

    def __init__(self):
        self.values = {}

    def key_value_set(self, key, value):
        assert key not in self.values
        self.values[key] = value

    def key_value_dir_get(self, place):
        return [(key, value) for key, value in self.values.items() if key.startswith(place)]


@pytest.fixture
def run(monkeypatch):
    """Two processes that share a store; what ends one raises `Ended` with its status."""
    store = Store()
    one, other = peers._Peers(store, 0, 2), peers._Peers(store, 1, 2)
    monkeypatch.setattr(peers, "_SECONDS_BETWEEN_LOOKS", 0.02)
    monkeypatch.setattr(peers, "_LONGEST_SECONDS", 5.0)
    monkeypatch.setattr(peers, "_SECONDS_OF_THE_FIRST", 0.0)

    def leave(status):
        raise Ended(status)

    monkeypatch.setattr(os, "_exit", leave)
    # Who ends lets nothing be written there any more.
    kept = os.dup(2)
    yield one, other
    os.dup2(kept, 2)
    os.close(kept)


def test_who_hears_of_an_end_ends_with_it(run, capfd):
    one, other = run
    threading.Thread(target=lambda: pytest.raises(Ended, one.look), daemon=True).start()
    line = "moa-jax: train.csv: not found"
    with signals.handled():
        with pytest.raises(Ended, match="^1$"):
            other.end(peers._Ending(1, line, 1))
    assert one.follows and not other.follows
    assert capfd.readouterr().err == "moa-jax: process 1: train.csv: not found\n"
    said = [json.loads(text) for text in one._store.values.values()]
    assert said == [[1, line, 1], [1, line, 1]], "a third one would name the first's as the origin"


def test_nothing_is_written_after_the_last_line(run, monkeypatch, capfd):
    """Neither by other threads nor by what is not Python's."""
    one, other = run
    line = "moa-jax: tr\udce4in.csv: not found"
    other.say(peers._Ending(1, line, 1))
    with signals.handled(), pytest.raises(Ended):
        one.look()
    os.write(2, b"epoch 7/25\n")
    assert capfd.readouterr().err == "moa-jax: process 1: tr\\udce4in.csv: not found\n"


def test_nothing_is_written_after_the_line_of_who_ends_first(run, monkeypatch, capfd):
    one, other = run
    one.say(peers._Ending(1, "", 1))
    monkeypatch.setattr(peers, "_PEERS", [other])
    os.write(2, b"the line\n")
    with pytest.raises(Ended):
        peers.end_with("the line", 1)
    os.write(2, b"epoch 7/25\n")
    assert capfd.readouterr().err == "the line\n"


def test_a_mistake_is_told_to_the_others(run, monkeypatch, capsys):
    one, other = run
    monkeypatch.setattr(peers, "_PEERS", [other])
    one.say(peers._Ending(0, "", 1))
    with pytest.raises(Ended), ending.in_one_line():
        raise UserError("train.csv: not found")
    assert [1, "moa-jax: train.csv: not found", 1] in [
        json.loads(t) for t in other._store.values.values()
    ]
    capsys.readouterr()


def test_a_mistake_of_the_program_is_told_to_the_others_and_kept(run, monkeypatch, capsys):
    one, other = run
    monkeypatch.setattr(peers, "_PEERS", [other])
    one.say(peers._Ending(0, "", 1))
    with pytest.raises(Ended, match="^1$"), ending.in_one_line():
        raise KeyError("a column")
    printed = capsys.readouterr().err
    assert "Traceback" in printed and "KeyError: 'a column'" in printed


def test_what_fails_because_another_has_ended_is_not_told(run, monkeypatch, capsys):
    one, _ = run
    monkeypatch.setattr(peers, "_PEERS", [one])
    monkeypatch.setattr(peers, "_LONGEST_SECONDS", 0.01)
    waited = []
    monkeypatch.setattr(peers.time, "sleep", waited.append)
    one.follows = True
    with pytest.raises(Ended), ending.in_one_line():
        raise RuntimeError("Connection closed by peer")
    assert waited[0] == 2 * peers._LONGEST_SECONDS
    capsys.readouterr()


def test_who_is_ended_at_once_tells_the_others(run, monkeypatch, capfd):
    _, other = run
    with signals.handled():
        signals.before_ending(lambda line, status: other.say(peers._Ending(1, line, status)))
        with pytest.raises(Ended, match="143"):
            signals.end_at_once(signal.SIGTERM)
    (said,) = other._store.values.values()
    assert json.loads(said)[2] == 143
    capfd.readouterr()


def test_no_process_alone_is_watched():
    assert not peers.are_watched()
    assert peers.end_with("", 1) is None
