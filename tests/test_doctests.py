"""The examples in docstrings run and print what they say."""

import doctest
import importlib
import pkgutil

import pytest

import moa_jax

# Programs, which act when they are imported.
PROGRAMS = ("moa_jax.__main__", "moa_jax.command.stored_config", "moa_jax.pretrained.__main__")
MODULES = [
    module.name
    for module in pkgutil.walk_packages(moa_jax.__path__, "moa_jax.")
    if module.name not in PROGRAMS
]


def examples(name):
    return [
        test
        for test in doctest.DocTestFinder().find(importlib.import_module(name))
        if test.examples
    ]


@pytest.mark.parametrize("name", MODULES)
def test_examples(name):
    runner = doctest.DocTestRunner()
    for test in examples(name):
        runner.run(test)
    assert runner.failures == 0


def test_there_are_examples():
    assert sum(len(test.examples) for name in MODULES for test in examples(name)) >= 30
