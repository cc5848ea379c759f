"""Sealed JSON: what was written, or one line."""

import json
import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moa_jax.errors import UserError
from moa_jax.store import files

REMEDY = "write it again"
VALUE = {"weights": {"ä": 0.1, "b": [1, 2.5, None, True]}, "version": 4, "text": "a\nb\u2028\ud800"}
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)


def _message(path, read):
    with pytest.raises(UserError) as raised:
        read(path)
    message = str(raised.value)
    assert message.startswith(f"{path}: ") and "\n" not in message
    return message


def _read(path):
    return files.read_sealed(path, REMEDY)


@settings(max_examples=30, deadline=None)
@given(st.dictionaries(st.text().filter(lambda name: name != "sha256"), JSON))
def test_a_sealed_value_is_returned(tmp_path_factory, value):
    text = json.dumps({**value, "sha256": files.content_hash(value)})
    path = tmp_path_factory.getbasetemp() / "any.json"
    path.write_text(text)
    assert _read(path) == value


def test_keys_of_any_kind_are_sealed_as_texts(tmp_path):
    files.write_sealed(tmp_path / "a.json", {"rows": {10: "a", 2: "b"}, "pair": (1, 2)})
    assert _read(tmp_path / "a.json") == {"rows": {"10": "a", "2": "b"}, "pair": [1, 2]}
    with pytest.raises(ValueError, match="sha256"):
        files.write_sealed(tmp_path / "b.json", {"sha256": "mine"})


def test_every_flipped_bit_is_told_or_changes_nothing(tmp_path):
    path = tmp_path / "a.json"
    value = VALUE | {"text": "a\nb"}
    files.write_sealed(path, value)
    whole, told = path.read_bytes(), 0
    for place in range(0, len(whole), 3):
        damaged = bytearray(whole)
        damaged[place] ^= 1 << place % 8
        path.write_bytes(damaged)
        try:
            assert _read(path) == value  # a space that became another
        except UserError as error:
            assert str(error).startswith(f"{path}: ") and "\n" not in str(error)
            told += 1
    assert told > 0.25 * len(whole)


def test_another_layout_is_the_same_content(tmp_path):
    path = tmp_path / "a.json"
    files.write_sealed(path, {"b": 1, "a": [0.1]})
    stored = json.loads(path.read_text())
    path.write_text(json.dumps(dict(sorted(stored.items()))))
    assert _read(path) == {"b": 1, "a": [0.1]}
    path.write_text(json.dumps(stored | {"b": 2}))
    assert _message(path, _read).endswith(
        "damaged, its content is not what was written; write it again"
    )


@pytest.mark.parametrize("read", [files.read_json, _read], ids=["json", "sealed"])
@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", "expected JSON"),
        (b'{"a": 1', "expected JSON"),
        ("[" * 100_000 + "]" * 100_000, "expected JSON"),
        (b'{"a": "\xff"}', "expected JSON"),
        ('{"a": 1}'.encode("utf-16"), "expected JSON"),
        (b'{"a": ' + b"9" * 5000 + b"}", "expected JSON"),
    ],
    ids=["empty", "cut", "deep", "bytes", "utf-16", "digits"],
)
def test_what_is_no_json_is_one_line(tmp_path, read, content, expected):
    path = tmp_path / "a.json"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    assert expected in _message(path, read)


@pytest.mark.parametrize("depth", [300, 600, 900, 990, 3000])
def test_nesting_of_any_depth_is_one_line(tmp_path, depth):
    path = tmp_path / "a.json"
    path.write_text('{"sha256": "0", "a": ' + "[" * depth + "]" * depth + "}")
    assert "damaged" in _message(path, _read)


@pytest.mark.parametrize("content", ["[]", "3", "{}", '{"a": 1}', '{"sha256": 5}'])
def test_what_has_no_seal_is_told(tmp_path, content):
    path = tmp_path / "a.json"
    path.write_text(content)
    assert _message(path, _read).endswith(
        "damaged, expected an object with its sha256; write it again"
    )


@pytest.mark.parametrize("read", [files.read_json, files.check_regular])
def test_what_is_no_file_is_one_line(tmp_path, read):
    assert "not found" in _message(tmp_path / "missing", read)
    (tmp_path / "folder").mkdir()
    assert "found a folder" in _message(tmp_path / "folder", read)
    (tmp_path / "dangling").symlink_to("nowhere")
    (tmp_path / "loop").symlink_to("loop")
    for name in ("dangling", "loop"):
        assert "found a symbolic link that leads nowhere" in _message(tmp_path / name, read)
    os.mkfifo(tmp_path / "pipe")  # would be waited for
    assert "found a pipe or a device" in _message(tmp_path / "pipe", read)
