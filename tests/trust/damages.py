"""Damages: the artefacts of a finished work folder, and what may happen to each of them."""

import os
import shutil

import pytest

# What nothing but a person reads.
PAGES = {".html", ".png", ".txt", ""}
KINDS = (
    "deleted",
    "truncated",
    "flipped",
    "changed",
    "shortened",
    "emptied",
    "lengthened",
    "replaced",
    "linked",
    "dangling",
    "looping",
    "folder",
    "pipe",
    "unreadable",
)


def artefacts(workdir, checkpoints=False):
    """Returns the files of a work folder that a program reads, sorted; checkpoints if asked for."""
    return sorted(
        path
        for path in workdir.rglob("*")
        if path.is_file()
        and (checkpoints or "checkpoints" not in path.parts)
        and (path.suffix not in PAGES or "checkpoints" in path.parts)
    )


def damage(kind, path, rng, other=None):
    """Damages a file.

    Args:
      kind: one of `KINDS`. `replaced` and `linked` put `other` in its place, or, without one, the
        file itself with a byte more; `flipped` flips one bit, `changed` changes one byte,
        `shortened` leaves one out, `truncated` cuts at a place.
      path: the file.
      rng: a numpy generator that draws places.
      other: the same file of another run.
    """
    content = path.read_bytes()
    given = other.read_bytes() if other else content + b" "
    if kind in ("deleted", "linked", "dangling", "looping", "folder", "pipe"):
        path.unlink()
    if kind == "truncated":
        path.write_bytes(content[: rng.integers(len(content))])
    elif kind == "flipped":
        changed = bytearray(content)
        changed[rng.integers(len(content))] ^= 1 << int(rng.integers(8))
        path.write_bytes(changed)
    elif kind == "changed":
        changed = bytearray(content)
        changed[rng.integers(len(content))] ^= int(rng.integers(1, 256))
        path.write_bytes(changed)
    elif kind == "shortened":
        place = rng.integers(len(content))
        path.write_bytes(content[:place] + content[place + 1 :])
    elif kind == "emptied":
        path.write_bytes(b"")
    elif kind == "lengthened":
        path.write_bytes(content + bytes(7))
    elif kind == "replaced":
        path.write_bytes(given)
    elif kind == "linked":
        elsewhere = path.with_name(f"{path.name}.elsewhere")
        elsewhere.write_bytes(given)
        path.symlink_to(elsewhere)
    elif kind == "dangling":
        path.symlink_to("nowhere")
    elif kind == "looping":
        path.symlink_to(path.name)
    elif kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "unreadable":
        if os.geteuid() == 0:
            pytest.skip("root reads files of any mode")
        path.chmod(0)
    elif kind != "deleted":
        raise ValueError(kind)


def restore(source, workdir):
    """Makes a work folder what `source` is; faster than a new copy where little was damaged."""
    for path in sorted(workdir.rglob("*"), reverse=True):
        there = source / path.relative_to(workdir)
        if path.is_symlink() or not os.path.lexists(there) or path.is_dir() != there.is_dir():
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
    shutil.copytree(source, workdir, dirs_exist_ok=True)
