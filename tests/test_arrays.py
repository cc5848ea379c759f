"""Files of arrays: what comes back, which damage is told, and what is refused at writing."""

import json
from pathlib import Path

import numpy as np
import pytest

from moa_jax.errors import UserError
from moa_jax.store import arrays

KIND = "weights"
TREE = {
    "params": {"dense": {"kernel": np.arange(6.0).reshape(2, 3), "bias": np.float32([1, -0.0])}},
    "names": np.array(["gene", "Zelle ü"]),
    "chosen": np.array([True, False]),
    "count": np.array(3),
    "none": np.zeros((0, 2), np.int8),
}
RECORD = {"epoch": 3, "loss": 0.1 + 0.2, "source": "b0 ü.pth", "missing": None}


@pytest.fixture
def path(tmp_path):
    arrays.write(tmp_path / "a.npz", KIND, TREE, RECORD)
    return tmp_path / "a.npz"


def content(tree, record):
    """Everything that is read, in its order, to the last bit."""
    found = [
        (name, array.dtype, array.shape, array.flags.f_contiguous, array.tobytes())
        for name, array in arrays._flat(tree)
    ]
    return found, record


def test_what_is_written_is_read(path):
    tree, record = arrays.read(path, KIND)
    assert content(tree, record) == content(TREE, RECORD)
    assert list(tree) == list(TREE)
    assert arrays.read_record(path, KIND) == RECORD
    assert arrays.num_bytes(path) == path.stat().st_size
    tree["params"]["dense"]["kernel"][0] = 1  # can be written to


def test_numpy_reads_the_file(path):
    with np.load(path, allow_pickle=False) as stored:
        np.testing.assert_array_equal(stored["params/dense/kernel"], np.arange(6.0).reshape(2, 3))
        assert json.loads(str(stored["description"]))["record"] == RECORD


def test_the_layout_in_memory_is_kept(tmp_path):
    """What is computed with it later may depend on the order in the last bit."""
    columns = np.asfortranarray(np.arange(6.0).reshape(2, 3))
    arrays.write(tmp_path / "a.npz", KIND, {"columns": columns, "part": columns[:, ::2]}, {})
    tree, _ = arrays.read(tmp_path / "a.npz", KIND)
    np.testing.assert_array_equal(tree["columns"], columns)
    np.testing.assert_array_equal(tree["part"], columns[:, ::2])
    assert tree["columns"].flags.f_contiguous


def test_equal_content_gives_equal_bytes(path, monkeypatch):
    monkeypatch.setattr("time.time", lambda: 2e9)
    monkeypatch.setattr("time.localtime", None)
    arrays.write(path.with_name("b.npz"), KIND, TREE, RECORD)
    assert path.with_name("b.npz").read_bytes() == path.read_bytes()


@pytest.mark.filterwarnings("ignore")  # numpy tells of headers that only Python 2 wrote
def test_a_flipped_byte_is_told_or_changes_nothing(path):
    whole, expected = path.read_bytes(), content(TREE, RECORD)
    refused = 0
    for position in range(len(whole)):
        for bits in (0x01, 0x08, 0xFF):
            damaged = bytearray(whole)
            damaged[position] ^= bits
            path.write_bytes(damaged)
            try:
                assert content(*arrays.read(path, KIND)) == expected, (position, bits)
            except UserError as error:
                refused += 1
                assert str(error).startswith(f"{path}: ") and "\n" not in str(error)
    # The others are in what zip keeps twice, or for other programs: dates, rights, versions.
    assert refused > 0.7 * 3 * len(whole)


def test_a_file_cut_anywhere_is_damaged(path):
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(UserError, match="a.npz: damaged, expected weights: ") as raised:
            arrays.read(path, KIND)
        assert "\n" not in str(raised.value)


def test_a_missing_file_is_named(tmp_path):
    for ask in (
        lambda path: arrays.read(path, KIND),
        lambda path: arrays.read_record(path, KIND),
        arrays.num_bytes,
    ):
        with pytest.raises(UserError, match=r"absent.npz: not found$"):
            ask(tmp_path / "absent.npz")


def test_another_version_kind_or_format_is_named(path, monkeypatch):
    expected = "a.npz: expected weights, format version 1, found "
    for ask in (arrays.read, arrays.read_record):
        with pytest.raises(UserError, match=expected.replace("weights", "a scale") + "weights, "):
            ask(path, "a scale")
    monkeypatch.setattr(arrays, "VERSION", 2)
    arrays.write(path, KIND, TREE, RECORD)
    monkeypatch.undo()
    with pytest.raises(UserError, match=expected + r"weights, format version 2$"):
        arrays.read(path, KIND)
    np.savez(path, bias=np.zeros(2))
    with pytest.raises(UserError, match=expected + r"an archive of another format$"):
        arrays.read(path, KIND)


def forge(path, names, **entries):
    described = {"kind": KIND, "version": arrays.VERSION, "arrays": names, "record": {}}
    np.savez(path, description=json.dumps(described), **entries)


def test_entries_are_those_that_are_described(path):
    for names in (["a"], ["a", "b", "c"], ["b", "a"]):
        forge(path, names, a=np.zeros(1), b=np.ones(1))
        with pytest.raises(UserError, match="a.npz: damaged, .* its entries are not those"):
            arrays.read(path, KIND)


class Trap:
    """Leaves a file behind when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def test_reading_executes_nothing(path):
    forge(path, ["a"], a=np.array([Trap(path.with_name("sprung"))], object))
    with pytest.raises(UserError, match="a.npz: damaged, .*: Object arrays cannot be loaded"):
        arrays.read(path, KIND)
    assert not path.with_name("sprung").exists()


@pytest.mark.parametrize(
    ("tree", "error", "message"),
    [
        ({"a": {"b": np.array(["x"], object)}}, TypeError, "a/b: an array of objects cannot be"),
        ({"a": np.zeros(2, "datetime64[s]")}, TypeError, "a: an array of datetime64.s. cannot be"),
        ({"a": {"b/c": np.zeros(2)}}, ValueError, "a/b/c: expected a name without a slash"),
        ({"description": np.zeros(2)}, ValueError, "description: expected another name"),
    ],
)
def test_what_cannot_be_written_leaves_the_file_as_it_is(path, tree, error, message):
    before = path.read_bytes()
    with pytest.raises(error, match=message):
        arrays.write(path, KIND, tree, {})
    assert path.read_bytes() == before and list(path.parent.iterdir()) == [path]
