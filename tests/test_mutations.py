"""The mutations still fit the product, and the tests that must catch them are there."""

import ast
import functools
from pathlib import Path

import mutations
import pytest
from mutations import MUTATIONS, PACKAGE

TESTS = Path(__file__).parent


@functools.cache
def functions_of(path):
    """The names of a file's test functions."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


def test_every_mistake_can_be_made_and_has_tests():
    for mutation in MUTATIONS:
        text = (PACKAGE / mutation.file).read_text(encoding="utf-8")
        ast.parse(mutation.mutated(text))
        assert mutation.new != mutation.old and mutation.tests, mutation.title
        for test in mutation.tests.split():
            file, _, name = test.partition("::")
            assert name.partition("[")[0] in functions_of(TESTS / file), test


def test_mistakes_are_many_and_in_every_room():
    assert len({(m.file, m.old, m.new) for m in MUTATIONS}) == len(MUTATIONS) >= 80
    rooms = {path.name for path in PACKAGE.iterdir() if (path / "__init__.py").is_file()}
    of_package = {m.file for m in MUTATIONS if not m.file.startswith("../")}
    assert {file.split("/")[0] for file in of_package if "/" in file} == rooms - {"configs"}


@pytest.mark.parametrize("old", ["absent text", "import"])
def test_text_that_is_not_there_once_is_told(old):
    mutation = mutations.Mutation("config.py", old, "", "test_configs.py::test_published_weights")
    text = (PACKAGE / "config.py").read_text(encoding="utf-8")
    with pytest.raises(ValueError, match=f"config.py: expected once, found .* times: {old}"):
        mutation.mutated(text)
