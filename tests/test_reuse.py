"""Reuse of programs: what is the same function, and what is not compiled a second time."""

import collections
import concurrent.futures
import dataclasses
import functools
import gc
import threading
import weakref
from typing import NamedTuple
from unittest import mock

import flax
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toy
from test_loop import fit

from moa_jax.models import drawn_mlp, efficientnet
from moa_jax.models.drawn_mlp import DrawnMLP
from moa_jax.models.tabnet import TabNet
from moa_jax.recipes import profile_nn
from moa_jax.training import in_turn, loop, losses, reuse, rules
from moa_jax.training.identity import Unnamed, identity
from moa_jax.training.initial import initialise
from moa_jax.training.parallel import STRATEGIES, Devices
from moa_jax.training.program import Program
from moa_jax.training.reuse import LastUsed


def scaling(factor, inner=None):
    def scale(state, own, shared):
        return state, (inner or jnp.negative)(own * factor)

    return scale


@dataclasses.dataclass(frozen=True)
class Settings:
    factor: float
    table: dict

    def scaled(self, x):
        return x * self.factor


FACTOR = 2.0


def helper(x):
    return x * FACTOR


def calling(state, own, shared):
    return state, helper(own)


class Given(NamedTuple):
    number: jax.Array | float

    def halved(self):
        return self.number / 2


class Counter:
    def __init__(self):
        self.count = 0

    def __call__(self, x):
        self.count += 1
        return x


@pytest.mark.parametrize(
    ("make", "others"),
    [
        (lambda: scaling(2.0), [scaling(3.0), scaling(2), scaling(2.0, jnp.abs)]),
        (lambda: scaling(0.0), [scaling(-0.0), scaling(False)]),
        (lambda: scaling(1, scaling(2)), [scaling(1, scaling(3)), scaling(2, scaling(1))]),
        (lambda: scaling(np.arange(3)), [scaling(np.arange(3.0)), scaling(np.arange(1, 4))]),
        (lambda: scaling(jnp.arange(3)), [scaling(jnp.arange(4)), scaling(np.arange(3))]),
        (
            lambda: functools.partial(scaling, factor=1),
            [functools.partial(scaling, factor=2), functools.partial(scaling, 1)],
        ),
        (
            lambda: Settings(1.0, {"a": (1, 2)}).scaled,
            [Settings(2.0, {"a": (1, 2)}).scaled, Settings(1.0, {"a": [1, 2]}).scaled],
        ),
        (lambda: rules.patience(3), [rules.patience(4), rules.never()]),
        (lambda: TabNet(3, n_d=4), [TabNet(4, n_d=4), TabNet(3, n_d=5)]),
        (lambda: lambda x, y=1: x, [lambda x, y=2: x, lambda x: x]),
        (lambda: jax.nn.relu, [jax.nn.gelu]),
        (lambda: initialise(toy.stage().definition), [initialise(toy.stage(lr=0.1).definition)]),
        (
            lambda: loop.train(toy.stage(seeds=(1,)).definition),
            [
                loop.validate(toy.stage().definition),
                loop.train(toy.stage(batch_size=8).definition),
            ],
        ),
    ],
)
def test_equal_functions_are_one(make, others):
    expected = identity(make())
    assert identity(make()) == expected and hash(identity(make())) == hash(expected)
    for other in others:
        assert identity(other) != expected


@pytest.mark.parametrize(
    ("value", "owner", "name", "new"),
    [
        (calling, None, "FACTOR", 3.0),
        (calling, None, "helper", lambda x: x),
        (scaling(1, calling), None, "helper", lambda x: x),
        # Found by an import within the function, and by the name of a module.
        (profile_nn._smoothed_loss, losses, "smoothed", lambda y, rate: y),
        (DrawnMLP((3,), 2), drawn_mlp, "EPSILON", 0.1),
        (DrawnMLP((3,), 2), DrawnMLP, "_dropped", lambda self, x, rate: x),
        (Settings(1.0, {}).scaled, Settings, "scaled", lambda self, x: x),
        (nn.Dropout(0.5), jax.random, "bernoulli", lambda key, p, shape: jnp.ones(shape, bool)),
        (losses.smoothed, losses.smoothed, "__code__", helper.__code__),
        (efficientnet.swish, efficientnet, "_swish_cotangent", helper),
        (scaling(Given(1.0)), Given, "halved", lambda self: self.number),
    ],
)
def test_what_was_defined_anew_is_another_function(monkeypatch, value, owner, name, new):
    before = identity(value)
    assert identity(value) == before
    if owner is None:
        monkeypatch.setitem(globals(), name, new)
    elif name == "__code__":
        new = new.replace(co_argcount=2, co_varnames=("x", "y"), co_nlocals=2)
        monkeypatch.setattr(owner, name, new)
    else:
        monkeypatch.setattr(owner, name, new)
    assert identity(value) != before
    monkeypatch.undo()
    assert identity(value) == before


def test_a_method_of_what_is_given_that_was_defined_anew(monkeypatch):
    def halved():
        return program(lambda state, own, shared: (state, own.halved()))((), given, ())[1]

    given = Given(jnp.ones((1, 3)))
    np.testing.assert_array_equal(halved(), 0.5)
    monkeypatch.setattr(Given, "halved", lambda self: self.number / 4)
    np.testing.assert_array_equal(halved(), 0.25)


def test_arrays_that_promote_otherwise_are_others():
    weak = jnp.sin(1.0)
    assert weak.weak_type
    assert identity(scaling(weak)) != identity(scaling(jnp.array(weak, weak.dtype)))
    double = program(lambda state, own, shared: (state, own * shared))
    half = np.ones((1, 3), np.float16)
    (same, other) = (double((), half, array)[1].dtype for array in (weak, np.asarray(weak)))
    assert (same, other) == (np.float16, np.float32)


def test_data_makes_no_other_program_and_stays_out():
    stage = toy.stage()
    other = dataclasses.replace(stage, name="other", shared=np.ones(3), members=stage.members[:2])
    other = dataclasses.replace(other, known=np.ones(stage.targets.shape, bool))
    for one in (loop.train, loop.validate, initialise):
        assert identity(one(stage.definition)) == identity(one(other.definition))
    definition = stage.definition
    assert definition.members == () and definition.targets.size == 0 and definition.shared == ()


def test_what_has_a_state_of_its_own_is_not_named():
    def recursive(x):
        return recursive(x)

    for value in (Counter(), scaling(Counter()), functools.partial(Counter()), recursive, iter(())):
        with pytest.raises(Unnamed):
            identity(value)


class Flagged(int):
    """A number with more to it."""


@dataclasses.dataclass
class Holding:
    number: int
    later: int = dataclasses.field(init=False)


@dataclasses.dataclass
class Table(dict):
    number: int = 1


def holding(**attributes):
    made = Holding(1)
    vars(made).update(attributes)
    return made


def without_value():
    def unset():
        return later

    if unset is None:
        later = 1
    return unset


def test_what_holds_more_than_it_shows_is_not_named():
    network = nn.Dense(2)
    bound = network.bind({"params": {"kernel": jnp.ones((3, 2)), "bias": jnp.ones(2)}})
    identity(network)
    assert identity(holding(later=2)) != identity(holding(later=3)) != identity(holding())
    for value in (
        np.ma.array([1, 2], mask=[True, False]),
        jax.random.key(0),
        collections.defaultdict(int),
        Flagged(1),
        holding(beside=1),
        Table(),
        bound,
        without_value(),
    ):
        with pytest.raises(Unnamed):
            identity(scaling(value))


def test_attributes_of_functions_count():
    functions = [scaling(1) for _ in range(3)]
    functions[1].rate, functions[2].rate = 1, 2
    assert len({identity(function) for function in functions}) == 3


def test_any_setting_makes_another_program():
    usual, quick = reuse.options(), jax.config.values["jax_disable_most_optimizations"]
    for setting in (
        jax.enable_x64(not jax.config.jax_enable_x64),
        jax.threefry_partitionable(not jax.config.jax_threefry_partitionable),
        jax.debug_nans(True),
        jax.numpy_dtype_promotion("strict"),
        jax.default_device(jax.devices()[-1]),
        flax.config.temp_flip_flag("fix_rng_separator", True),
    ):
        with setting:
            assert reuse.options() != usual
        assert reuse.options() == usual
    # This one is no context.
    try:
        jax.config.update("jax_disable_most_optimizations", not quick)
        assert reuse.options() != usual
    finally:
        jax.config.update("jax_disable_most_optimizations", quick)


def test_what_changes_before_or_while_it_is_traced():
    factors = np.full(1, 2.0)
    late = program(scaling(factors))
    factors[:] = 3
    np.testing.assert_array_equal(late(*arguments())[1], -3.0)
    np.testing.assert_array_equal(program(scaling(np.full(1, 2.0)))(*arguments())[1], -2.0)

    def counting(traces):
        def count(state, own, shared):
            traces.append(1)
            return state, own * len(traces)

        return count

    for _ in range(2):
        traces = []
        assert program(counting(traces))(*arguments())[1].max() == len(traces) > 0


def program(fn, name="reused"):
    return Program(name, fn, Devices.available("vmap"), donate=False)


def arguments(width=2):
    return jnp.zeros((1, 3, width)), jnp.ones((1, 3, width)), jnp.zeros(1)


def test_a_program_is_compiled_once_in_a_process():
    first, second = program(scaling(5.0)), program(scaling(5.0))
    found = first.compiled(*arguments())
    assert second.compiled(*arguments()) is found
    assert program(scaling(5.0), "another name").compiled(*arguments()) is found
    assert first.compilations == second.compilations == 1
    np.testing.assert_array_equal(second(*arguments())[1], -5.0)
    for other in (
        program(scaling(6.0)),
        program(scaling(5.0, Counter())),
        Program("reused", scaling(5.0), Devices.available("vmap")),
    ):
        assert other.compiled(*arguments()) is not found
    told = Devices.available("vmap").updating_in_place()
    unpolished, polished = (
        Program("reused", scaling(5.0), told, runs_once=once).compiled(*arguments())
        for once in (True, False)
    )
    assert polished is not unpolished
    assert second.compiled(*arguments(3)) is not found
    with jax.default_matmul_precision("highest"):
        assert program(scaling(5.0)).compiled(*arguments()) is not found
    deep = functools.reduce(lambda inner, _: (inner,), range(3000), ())
    assert program(scaling(5.0, lambda x: x * len(deep))).compiled(*arguments()) is not found
    # Two functions of which one has a state are never the same.
    counting = [program(scaling(5.0, Counter())) for _ in range(2)]
    assert counting[0].compiled(*arguments()) is not counting[1].compiled(*arguments())


def test_trees_of_other_structure_are_other_programs():
    tuples = program(lambda state, own, shared: (state, own))
    lists = program(lambda state, own, shared: (state, own))
    x = jnp.ones((1, 3))
    assert isinstance(tuples((x, x), x, x)[0], tuple)
    assert isinstance(lists([x, x], x, x)[0], list)


def test_the_program_that_was_not_used_for_longest_goes():
    kept = LastUsed(2)
    kept.put("a", 1)
    kept.put("b", 2)
    assert kept.get("a") == 1
    kept.put("c", 3)
    assert (kept.get("a"), kept.get("b"), kept.get("c")) == (1, None, 3)
    kept.clear()
    assert kept.get("a") is None


def test_a_second_run_of_a_stage_compiles_nothing(tmp_path):
    with mock.patch.object(reuse.PROGRAMS, "put", wraps=reuse.PROGRAMS.put) as put:
        first = fit(tmp_path / "first", toy.stage(epochs=1, lr=0.0123))
        assert put.call_count == 3
        second = fit(tmp_path / "second", toy.stage(epochs=1, lr=0.0123, seeds=(3, 5)))
    assert put.call_count == 3 and first.compilations == second.compilations == 3


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_programs_that_train_are_compiled_side_by_side(tmp_path, monkeypatch, strategy):
    begun, compiled = [], in_turn.compiled
    meeting = threading.Barrier(2, timeout=60)

    def together(lowered, options):
        begun.append(lowered)
        if len(begun) <= 2:
            meeting.wait()
        return compiled(lowered, options)

    monkeypatch.setattr(in_turn, "compiled", together)
    monkeypatch.setattr(reuse, "PROGRAMS", LastUsed(4))
    run = fit(tmp_path, toy.stage(epochs=2), devices=Devices.available(strategy))
    # What was begun for shapes is what arrays call.
    assert run.compilations == len(begun) == 3


def test_two_that_ask_for_a_program_wait_for_one_compilation(monkeypatch):
    asked, compiled = threading.Event(), in_turn.compiled
    monkeypatch.setattr(in_turn, "compiled", lambda *given: asked.wait(60) and compiled(*given))
    first, second = program(scaling(7.0)), program(scaling(7.0))
    first.begin(*arguments())
    second.begin(*arguments())
    asked.set()
    assert first.compiled(*arguments()) is second.compiled(*arguments())


def test_what_could_not_be_compiled_is_tried_again(monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(in_turn, "compiled", mock.Mock(side_effect=MemoryError))
        asked, begun = program(scaling(8.0)), program(scaling(9.0))
        with pytest.raises(MemoryError):
            asked.compiled(*arguments())
        begun.begin(*arguments())
        concurrent.futures.wait(begun._compiling.values(), 60)
    np.testing.assert_array_equal(asked(*arguments())[1], -8.0)
    assert program(scaling(9.0)).compiled(*arguments())


def test_what_could_not_be_compiled_holds_nothing(monkeypatch):
    class Table:
        """What a caller has at hand."""

    def ask(table):
        with pytest.raises(MemoryError):
            program(scaling(10.0)).compiled(*arguments())
        return weakref.ref(table)

    monkeypatch.setattr(in_turn, "compiled", mock.Mock(side_effect=MemoryError))
    found = ask(Table())
    monkeypatch.undo()
    gc.collect()
    assert found() is None


CACHE: dict = {}


@dataclasses.dataclass(frozen=True)
class Filling:
    """An object that fills a cache where it is looked at."""

    size: int = 1

    def __getattribute__(self, name):
        if name == "size":
            CACHE["later"] = 2
        return object.__getattribute__(self, name)


def test_a_dictionary_that_is_filled_meanwhile():
    CACHE["first"] = Filling()
    assert identity(CACHE) and CACHE.keys() == {"first", "later"}
