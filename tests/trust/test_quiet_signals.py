"""Signals end a command in one line with their own status, wherever they find it."""

import builtins
import itertools
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import toy

from moa_jax.command import entry
from moa_jax.store import processes, signals
from moa_jax.training.layout import Settings
from moa_jax.training.loop import StageRun
from moa_jax.training.parallel import Devices

ROOT = Path(__file__).parents[2]
HEAD = """
import os, signal, sys, time
from moa_jax.errors import UserError
from moa_jax.store import ending, files, signals
send = lambda number: os.kill(os.getpid(), getattr(signal, number))
"""


def run(program, *arguments, **options):
    return subprocess.run(
        [sys.executable, "-c", HEAD + program, *map(str, arguments)],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        **options,
    )


def ends(result, name):
    assert result.returncode == 128 + getattr(signal, name), result.stderr
    (line,) = result.stderr.splitlines()
    assert line.startswith(f"moa-jax: interrupted by {name}; the same command goes on from ")
    return line


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGUSR1"])
def test_a_signal_is_one_line_and_a_status(tmp_path, name):
    program = f"""
with ending.in_one_line(), files.replacing(sys.argv[1]) as temporary:
    temporary.touch()
    send({name!r})
    time.sleep(9)
"""
    ends(run(program, tmp_path / "table.csv"), name)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "within",
    [
        # A library makes another error of it.
        "try: send('SIGTERM'); time.sleep(9)\n    except BaseException: raise ValueError('odd')",
        "try: send('SIGTERM'); time.sleep(9)\n    except BaseException: raise UserError('odd')",
        "try: send('SIGTERM'); time.sleep(9)\n    except BaseException: raise KeyboardInterrupt",
        # It comes while the line of an error is made.
        "raise type('', (UserError,), {'__str__': lambda self: send('SIGTERM') or 'odd'})",
        # Nobody hears of an exception that leaves a finaliser.
        "type('', (), {'__del__': lambda self: (send('SIGTERM'), time.sleep(9))})()",
        # A launcher sends it to the process and to its group.
        "try: send('SIGTERM'); time.sleep(9)\n    finally: send('SIGTERM')",
        # It is lost.
        "signals.GRACE_SECONDS = 0.2\n"
        "    try: send('SIGTERM'); time.sleep(9)\n    except BaseException: time.sleep(9)",
    ],
)
def test_whatever_becomes_of_the_exception(within):
    ends(run(f"with ending.in_one_line():\n    {within}\n"), "SIGTERM")


def test_training_looks_for_itself():
    program = """
with ending.in_one_line(), signals.watched():
    send('SIGUSR1')
    time.sleep(0.01)
    print('saved', signals.received() == signal.SIGUSR1)
"""
    result = run(program)
    assert result.stdout == "saved True\n"
    ends(result, "SIGUSR1")


def test_a_second_ctrl_c_ends_at_once():
    program = """
with ending.in_one_line(), signals.watched():
    send('SIGINT')
    send('SIGINT')
    time.sleep(9)
    print('never')
"""
    result = run(program)
    assert result.stdout == ""
    ends(result, "SIGINT")


def test_a_checkpoint_is_waited_for_and_a_step_is_not():
    program = """
signals.GRACE_SECONDS = 0.2
with ending.in_one_line(), signals.watched():
    send('SIGTERM')
    if len(sys.argv) > 1:
        with signals.saving():
            time.sleep(0.6)
            print('saved', flush=True)
    time.sleep(9)
"""
    waited = run(program, "saving")
    assert waited.stdout == "saved\n"
    ends(waited, "SIGTERM")
    ends(run(program), "SIGTERM")


# As a compilation or a device call: Python tells the main thread nothing until it is back.
BLOCKED = """
import hashlib, threading
def blocked():
    hashlib.pbkdf2_hmac('sha256', b'', b'', 10**9)
"""


def test_time_is_up_while_the_main_thread_hears_nothing():
    program = f"""{BLOCKED}
signals.GRACE_SECONDS = 0.2
threading.Timer(0.2, send, ['SIGUSR1']).start()
with ending.in_one_line(), signals.watched():
    blocked()
"""
    ends(run(program), "SIGUSR1")


def test_a_second_ctrl_c_while_the_main_thread_hears_nothing():
    program = f"""{BLOCKED}
for seconds in (0.2, 0.4):
    threading.Timer(seconds, send, ['SIGINT']).start()
with ending.in_one_line():
    blocked()
"""
    ends(run(program), "SIGINT")


def test_time_is_up_while_a_thread_compiles():
    program = """
import threading
import jax.numpy as jnp
from moa_jax.training import in_turn
from moa_jax.training.parallel import Devices
from moa_jax.training.program import Program
in_turn.compiled = lambda *given: time.sleep(9) or print('never', flush=True)
signals.GRACE_SECONDS = 0.5
with ending.in_one_line():
    one = jnp.ones((1, 1))
    threading.Timer(1, send, ['SIGTERM']).start()
    Program('slow', lambda *given: given[:2], Devices.available('vmap'))(one, one, one)
"""
    result = run(program)
    assert result.stdout == ""
    ends(result, "SIGTERM")


def test_nothing_follows_the_line():
    program = """
class Slow:
    def write(self, text):
        send('SIGTERM')
        sys.__stderr__.write(text)
    def flush(self): sys.__stderr__.flush()
sys.stderr = Slow()
with ending.in_one_line():
    raise UserError('the line')
"""
    result = run(program)
    assert (result.returncode, result.stderr) == (1, "moa-jax: the line\n")


def test_who_goes_on_after_the_command_has_the_signals_as_before():
    program = """
signals.GRACE_SECONDS = 0.2
heard = []
signal.signal(signal.SIGTERM, lambda number, frame: heard.append(number))
before = [signal.getsignal(number) for number in signals.SIGNALS]
for error in (None, UserError('odd'), Interrupted):
    try:
        with ending.in_one_line():
            if error is Interrupted:
                send('SIGTERM')
                time.sleep(9)
            elif error:
                raise error
    except SystemExit:
        pass
    if error is Interrupted:
        assert signals.received() == 0
        with signals.watched():  # an estimator trains
            time.sleep(0.6)
            send('SIGTERM')
        assert heard == [signal.SIGTERM], heard
        time.sleep(0.6)
    assert [signal.getsignal(number) for number in signals.SIGNALS] == before
    assert signal.set_wakeup_fd(-1) == -1
print('on')
"""
    result = run(program.replace("Interrupted", "signals.Interrupted"))
    assert (result.returncode, result.stdout) == (0, "on\n"), result.stderr
    assert [line[:28] for line in result.stderr.splitlines()] == [
        "moa-jax: odd", "moa-jax: interrupted by SIGT"
    ]  # fmt: skip


def test_a_child_that_is_ended_ends_nothing_else():
    program = """
signals.GRACE_SECONDS = 0.2
with ending.in_one_line():
    child = os.fork()
    if not child:
        time.sleep(9)
    time.sleep(0.3)
    os.kill(child, signal.SIGTERM)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGTERM
    time.sleep(0.6)
    print('on')
"""
    result = run(program)
    assert (result.returncode, result.stdout, result.stderr) == (0, "on\n", "")


def test_a_signal_that_the_caller_ignores_is_ignored():
    program = """
signal.signal(signal.SIGINT, signal.SIG_IGN)
with ending.in_one_line():
    send('SIGINT')
    print('on')
"""
    ignored = run(program)
    assert (ignored.returncode, ignored.stdout, ignored.stderr) == (0, "on\n", "")


def test_full_disks_are_one_line_and_mistakes_in_programs_are_not(tmp_path):
    program = """
with ending.in_one_line():
    raise OSError(28, 'No space left on device', 'somewhere')
"""
    full = run(program, cwd=tmp_path)
    assert full.returncode == 1
    assert full.stderr.startswith("moa-jax: somewhere: cannot be written: No space left on device;")
    assert len(full.stderr.splitlines()) == 1
    for mistake in ("ZeroDivisionError", "RuntimeError('Event loop is closed')"):
        result = run(f"with ending.in_one_line(): raise {mistake}")
        assert result.returncode == 1 and "Traceback" in result.stderr


def prepare(module, out, begun):
    """Runs a preparation, whatever it is that it does."""
    program = f"""
import runpy
from moa_jax.prepare import preparation
def prepare(table, out, options):
    {begun}
preparation.prepare = prepare
runpy.run_module({module!r}, run_name='__main__', alter_sys=True)
"""
    which = ["prepare"] if module == "moa_jax" else []
    return run(program, *which, "wells.csv", f"--out={out}", "--id=id")


def test_an_interrupted_preparation(tmp_path):
    begun = """
    with files.replacing(out / 'half.csv') as temporary:
        temporary.touch()
        send('SIGTERM')
        time.sleep(9)
"""
    assert ends(prepare("moa_jax", tmp_path, begun), "SIGTERM").endswith("from the beginning")
    assert not list(tmp_path.iterdir())


def test_a_preparation_on_a_full_disk(tmp_path):
    full = prepare("moa_jax.prepare", tmp_path, "raise OSError(28, 'No space', str(out))")
    assert full.returncode == 1 and len(full.stderr.splitlines()) == 1
    assert "cannot be written: No space left on device" in full.stderr


def test_what_libraries_print_of_a_loop_that_is_closed():
    program = """
with ending.in_one_line():
    def finalise(self):
        raise RuntimeError('Event loop is closed')
    type('', (), {'__del__': finalise})()
    raise UserError('the line')
"""
    assert run(program).stderr == "moa-jax: the line\n"


def test_an_interrupted_stage_goes_on_to_the_same_bits(tmp_path, monkeypatch):
    handlers = [signal.getsignal(number) for number in signals.SIGNALS]
    settings = Settings(Devices.available("vmap"), members_at_once=8, steps_per_call=3)
    run = StageRun(toy.stage(folds=2, seeds=(0,), epochs=2), tmp_path / "whole", settings, None)

    def members():
        return {path.name: path.read_bytes() for path in (run.folder / "members").iterdir()}

    run.fit()
    whole = members()
    run.folder = tmp_path / "cut"
    looks = itertools.chain([0, 0], itertools.repeat(15))
    monkeypatch.setattr(signals, "received", lambda: next(looks))
    with pytest.raises(signals.Interrupted) as interrupted:
        run.fit()
    assert interrupted.value.status == 143
    assert interrupted.value.where == "toy/first, epoch 2/2"
    assert len(list((tmp_path / "cut" / "checkpoints").iterdir())) == 1
    monkeypatch.setattr(signals, "received", lambda: 0)
    run.fit()
    assert members() == whole
    # Who trains without the command keeps the signals.
    assert [signal.getsignal(number) for number in signals.SIGNALS] == handlers


def test_a_signal_waits_until_jax_is_read(monkeypatch):
    monkeypatch.setattr(signals, "_STATE", signals._Signals())
    own, read = builtins.__import__, []

    def interrupted(name, *arguments):
        if name == "jax":
            signals._STATE.receive(signal.SIGINT, None)
            read.append(name)
        return own(name, *arguments)

    monkeypatch.setattr(builtins, "__import__", interrupted)
    with pytest.raises(signals.Interrupted):
        entry._import_jax()
    assert read == ["jax"]


def test_processes_agree_on_any_signal_and_the_first_ones_clock(monkeypatch):
    from jax.experimental import multihost_utils

    assert processes.agree(True, 0) == (True, 0)
    monkeypatch.setattr(processes, "are_several", lambda: True)
    monkeypatch.setattr(
        multihost_utils, "process_allgather", lambda own: np.stack([own, np.array([1, 15])])
    )
    assert processes.agree(False, 0) == (False, 15)
    assert processes.agree(True, 10) == (True, 15)
