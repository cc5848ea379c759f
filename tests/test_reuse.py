"""Reuse of programs: what is the same function, and what is not compiled a second time."""

import dataclasses
import functools
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toy
from test_loop import fit

from moa_jax.models.tabnet import TabNet
from moa_jax.training import loop, reuse, rules
from moa_jax.training.initial import initialise
from moa_jax.training.parallel import Devices, Program
from moa_jax.training.reuse import LastUsed, Unnamed, identity


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


def test_data_makes_no_other_program_and_stays_out():
    stage = toy.stage()
    other = dataclasses.replace(stage, name="other", shared=np.ones(3), members=stage.members[:2])
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


def program(fn, name="reused"):
    return Program(name, fn, Devices.available("vmap"), donate=False)


def arguments(width=2):
    return jnp.zeros((1, 3, width)), jnp.ones((1, 3, width)), jnp.zeros(1)


def test_a_program_is_compiled_once_in_a_process():
    first, second = program(scaling(5.0)), program(scaling(5.0))
    found = first.compiled(*arguments())
    assert second.compiled(*arguments()) is found
    assert first.compilations == second.compilations == 1
    np.testing.assert_array_equal(second(*arguments())[1], -5.0)
    for other in (
        program(scaling(6.0)),
        program(scaling(5.0), "another name"),
        program(scaling(5.0, Counter())),
        Program("reused", scaling(5.0), Devices.available("vmap")),
    ):
        assert other.compiled(*arguments()) is not found
    assert second.compiled(*arguments(3)) is not found
    with jax.default_matmul_precision("highest"):
        assert program(scaling(5.0)).compiled(*arguments()) is not found
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
        names = sorted(call.args[0][0][0] for call in put.call_args_list)
        assert names == [f"toy/first: {k}" for k in ("initialise", "train", "validate")]
        second = fit(tmp_path / "second", toy.stage(epochs=1, lr=0.0123, seeds=(3, 5)))
    assert put.call_count == 3 and first.compilations == second.compilations == 3
