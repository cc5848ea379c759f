"""A clumsy user: odd flags, paths and names; each is one line that says what was meant."""

import logging
import os
import sys
import types

import pyarrow as pa
import pyarrow.parquet
import pytest

from moa_jax.command import entry, flags, inference
from moa_jax.config import BlendConfig, DataConfig, PredictionFiles, RunConfig
from moa_jax.data import formats, prepared
from moa_jax.engine import configurations, progress_lines
from moa_jax.errors import UserError
from moa_jax.store import leftovers
from moa_jax.store.workdir import Workdir


def test_a_message_is_one_line_of_bounded_length():
    assert str(UserError("a\nb\x1b[2J\u2028: not found")) == r"a\nb\x1b[2J\u2028: not found"
    told = str(UserError(f"{'x' * 5000}: not found"))
    assert told.endswith("xxx: not found") and len(told) < 600


def test_a_log_line_is_one_line():
    record = logging.LogRecord("a", logging.INFO, "p", 1, "%s: not read", ("a\nb.csv",), None)
    assert progress_lines.Line("%(message)s").format(record) == r"a\nb.csv: not read"


@pytest.mark.parametrize(
    "path",
    [
        "config.data.cp_times[0]=5",
        "config.=1",
        "config.'a'.x=1",
        "config.models.a-b.epochs=3",
        "config.models.5x.epochs=3",
        "config.models.if.epochs=3",
    ],
)
def test_what_is_no_name_of_a_field(path):
    with pytest.raises(UserError, match="expected names of letters, digits"):
        flags._check_texts(["moa-jax", f"--{path}"])


def test_a_name_that_is_too_long_is_no_prepared_folder():
    assert prepared.read("x" * 5000) is None


def test_a_prepared_folder_whose_record_leads_nowhere(tmp_path):
    (tmp_path / prepared.NAME).symlink_to("absent")
    with pytest.raises(UserError, match=prepared.NAME):
        prepared.read(tmp_path)


def test_a_link_that_cannot_be_followed(tmp_path, monkeypatch):
    (tmp_path / "link").symlink_to("absent")
    follow = os.path.realpath

    def forbidden(path):
        if str(path).endswith("link"):
            raise PermissionError(13, "Permission denied")
        return follow(path)

    monkeypatch.setattr(os.path, "realpath", forbidden)
    with pytest.raises(UserError, match="link: cannot be read: Permission denied"):
        leftovers.clean(tmp_path)


def test_a_tilde_that_no_shell_expanded():
    with pytest.raises(UserError, match=r"write \$HOME"):
        Workdir("~/runs/mine")


def test_a_parquet_text_that_is_not_utf_8(tmp_path):
    texts = pa.array([b"a", b"\xff"]).view(pa.string())
    pa.parquet.write_table(pa.table({"sig_id": texts}), tmp_path / "a.parquet")
    with pytest.raises(UserError, match="a.parquet: cannot be read as parquet: .*UTF8"):
        list(formats.tables(tmp_path / "a.parquet"))


def test_devices_that_jax_does_not_find():
    def devices():
        raise RuntimeError("Unable to initialize backend 'x':\nnot known")

    with pytest.raises(UserError, match="JAX: Unable to initialize backend 'x': not known"):
        entry._check_devices(types.SimpleNamespace(devices=devices))


def test_a_setting_that_jax_refuses(tmp_path, monkeypatch):
    (tmp_path / "jax.py").write_text("raise ValueError('Invalid value for JAX flag')")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "jax", raising=False)
    with pytest.raises(UserError, match="environment: Invalid value for JAX flag"):
        entry._import_jax()


def test_what_stops_inference_stops_before_training(tmp_path):
    data = DataConfig(test_features=str(tmp_path / "absent.csv"))
    with pytest.raises(UserError, match="absent.csv: expected a file, found none"):
        inference.check_ahead(RunConfig({}, data=data))
    (tmp_path / "absent.csv").write_text("")
    inference.check_ahead(RunConfig({}, data=data))
    blend = BlendConfig(files={"m": PredictionFiles("oof.csv")})
    with pytest.raises(UserError, match="test_features: expected none with config.blend.files.m"):
        inference.check_ahead(RunConfig({}, data=data, blend=blend))


@pytest.mark.parametrize("error", ["SystemExit", "KeyboardInterrupt", "BaseException('x')"])
def test_a_configuration_that_raises_what_is_no_exception(tmp_path, error):
    (tmp_path / "a.py").write_text(f"raise {error}")
    with pytest.raises(UserError, match="a.py line 1: "):
        configurations.get_config(str(tmp_path / "a.py"))
