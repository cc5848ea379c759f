"""Configurations by name, the packaged ones and users' files, whose mistakes are one line."""

from __future__ import annotations

import importlib.util
import os
import sys
import traceback
from collections.abc import Collection
from pathlib import Path
from types import ModuleType

import ml_collections

from moa_jax import configs
from moa_jax.config import suggestion
from moa_jax.errors import UserError
from moa_jax.store.signals import Interrupted

# What the file is called while it is executed.
_MODULE = "moa_jax_config"


def packaged() -> dict[str, Path]:
    """Returns the files of the packaged configurations by name, in the order of the names."""
    found = Path(configs.__path__[0]).glob("[!_]*.py")
    return {path.stem: path for path in sorted(found)}


def file_of(value: str) -> str:
    """Returns a configuration's file and, after a colon, its variants, as `get_config` takes them.

    Args:
      value: a packaged name or the path of a file, and its variants.

    Raises:
      UserError: it is neither a packaged name nor a file whose name ends in `.py`.
    """
    name, colon, variant = value.partition(":")
    known, path = packaged(), name
    if not (name.endswith(".py") and os.path.isfile(name)):
        if (found := known.get(name.removesuffix(".py"))) is None:
            raise _no_configuration(name, known)
        path = str(found)
    return f"{path}{colon}{variant}"


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


def _no_configuration(name: str, known: Collection[str]) -> UserError:
    """Returns what is wrong with a name that is neither packaged nor a Python file."""
    packaged_are = f"packaged are {', '.join(known)}"
    if os.path.lexists(name):
        found = "a folder" if os.path.isdir(name) else "another file"
        return UserError(
            f"--config: {name}: expected a file whose name ends in .py, found {found}; "
            f"{packaged_are}"
        )
    return UserError(
        f"--config: {name}: not found; {packaged_are}" + suggestion(Path(name).stem, known)
    )


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
