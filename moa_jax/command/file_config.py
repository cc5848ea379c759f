"""A user's configuration file, whose own mistakes are one line that names it."""

from __future__ import annotations

import importlib.util
import sys
import traceback
from pathlib import Path
from types import ModuleType

import ml_collections

from moa_jax.errors import UserError
from moa_jax.store.signals import Interrupted

# What the file is called while it is executed.
_MODULE = "moa_jax_config"


def get_config(given: str) -> ml_collections.ConfigDict:
    """Returns what the file's own `get_config` returns.

    Args:
      given: the file and, after a colon, its variants.

    Raises:
      UserError: the file cannot be executed, has no `get_config`, or this fails or returns
        something else.
    """
    path, colon, variant = given.partition(":")
    try:
        module = _executed(path)
        if not callable(getattr(module, "get_config", None)):
            raise UserError(
                f"--config: {path}: expected a configuration with a function get_config, found none"
            )
        config = module.get_config(*([variant] if colon else []))
    except (UserError, Interrupted):
        raise
    except BaseException as error:  # whatever the code of the file raises
        raise UserError(f"--config: {path}{_line(error, path)}: {_said(error)}") from error
    if not isinstance(config, ml_collections.ConfigDict):
        raise UserError(
            f"--config: {path}: expected get_config to return a ConfigDict, found "
            f"{type(config).__name__}"
        )
    return config


def _executed(path: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(_MODULE, Path(path).resolve())
    assert spec is not None and spec.loader is not None  # of every file that ends in .py
    module = importlib.util.module_from_spec(spec)
    sys.modules[_MODULE] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def _line(error: BaseException, path: str) -> str:
    """Returns the last line of the file that led to an error, as ` line 3`."""
    here = str(Path(path).resolve())
    frames = traceback.extract_tb(error.__traceback__)
    lines = [frame.lineno for frame in frames if frame.filename == here]
    if isinstance(error, SyntaxError) and error.filename == here:
        lines.append(error.lineno)
    return f" line {lines[-1]}" if lines else ""


def _said(error: BaseException) -> str:
    message = error.msg if isinstance(error, SyntaxError) else str(error)
    return f"{type(error).__name__}: {' '.join(message.split())}".removesuffix(": ")
