"""No slow or optional test is left out: some job of the workflows runs it, with what it needs."""

import itertools
import re
import shlex
from pathlib import Path
from typing import NamedTuple

import pytest
import yaml

ROOT = Path(__file__).parents[1]
# Optional packages that tests ask for, by the extra that brings them.
EXTRAS = {"torch": "torch", "safetensors": "safetensors", "libtpu": "tpu", "tensorboardX":
          "tensorboard", "matplotlib": "dev", "optuna": "dev", "anndata": "dev",
          "h5py": "dev"}  # fmt: skip
ASKED = re.compile(r'(?:importorskip|find_spec)\("(\w+)')


class Command(NamedTuple):
    """One run of pytest in a job: what it selects, and what is installed there."""

    paths: tuple[str, ...]
    ignored: tuple[str, ...]
    words: tuple[str, ...]
    marked: bool
    slow: bool
    installed: frozenset[str]

    def runs(self, name, slow):
        """Tells whether a test of this node id is selected."""
        path = name.partition("::")[0]

        def within(folders):
            return any(path == f or path.startswith(f"{f}/") for f in folders)

        return (
            within(self.paths)
            and not within(self.ignored)
            and (not self.words or any(word in name for word in self.words))
            and (self.slow if slow else not self.marked)
        )


def expanded(job):
    """Yields the job's steps and environment for every entry of its matrix."""
    matrix = dict(job.get("strategy", {}).get("matrix", {}))
    entries = matrix.pop("include", None) or [
        dict(zip(matrix, values, strict=True)) for values in itertools.product(*matrix.values())
    ]
    for entry in entries:

        def fill(text, entry=entry):
            return re.sub(r"\$\{\{ matrix\.(\w+) \}\}", lambda m: str(entry[m[1]]), text)

        environment = {name: fill(str(text)) for name, text in job.get("env", {}).items()}
        yield [fill(step["run"]) for step in job["steps"] if "run" in step], environment


def command(words, installed):
    """Returns what the arguments of pytest select."""
    paths, ignored, chosen, marked, slow = [], [], [], False, False
    words = iter(words)
    for word in words:
        if word == "-k":
            chosen = next(words).split(" or ")
            assert all(re.fullmatch(r"[\w:\[\].-]+", one) for one in chosen), chosen
        elif word == "-m":
            assert next(words) == "slow"
            marked = True
        elif word.startswith("--ignore="):
            ignored.append(word.partition("=")[2])
        elif word.startswith("tests"):
            paths.append(word)
        elif word == "--runslow":
            slow = True
        else:
            assert word == "-s", word
    paths = paths or ["tests"]
    return Command(tuple(paths), tuple(ignored), tuple(chosen), marked, slow, frozenset(installed))


def commands():
    for path in sorted((ROOT / ".github" / "workflows").glob("*.yml")):
        for job in yaml.safe_load(path.read_text(encoding="utf-8"))["jobs"].values():
            for runs, environment in expanded(job):
                text = "\n".join(runs)
                installed = {"dev", *environment.get("EXTRAS", "").split(",")}
                for extras in re.findall(r"environment\.sh ([\w,]+)", text):
                    installed.update(extras.split(","))
                for packages in re.findall(r"pip install ([\w -]+)", text):
                    installed.update(packages.replace("-", "_").split())
                for line in text.splitlines():
                    found = re.fullmatch(
                        r"(?:bash launch/test\.sh|\S+ -m pytest)(.*)", line.strip()
                    )
                    if found and "--mutations" not in found[1]:
                        yield command(shlex.split(found[1]), installed)


@pytest.fixture(scope="module")
def jobs():
    return list(commands())


def test_every_slow_test_runs_in_a_job(request, jobs):
    """Of the whole suite when the whole suite runs, and of what was chosen otherwise."""
    slow = [item.nodeid for item in request.session.items if "slow" in item.keywords]
    assert [name for name in slow if not any(job.runs(name, slow=True) for job in jobs)] == []


def test_tests_of_optional_packages_run_where_these_are_installed(request, jobs):
    asked = {
        item.path: set(ASKED.findall(item.path.read_text(encoding="utf-8")))
        for item in request.session.items
    }
    left_out = {
        (item.nodeid, package)
        for item in request.session.items
        for package in asked[item.path]
        if not any(
            EXTRAS.get(package, package) in job.installed
            and job.runs(item.nodeid, slow="slow" in item.keywords)
            for job in jobs
        )
    }
    assert left_out == set()


def test_what_is_not_selected_is_told(jobs):
    name = "tests/test_tpu.py::test_pmap[v5e:2x2]"
    assert sum(job.runs(name, slow=True) and "tpu" in job.installed for job in jobs) == 1
    by_topology = next(job for job in jobs if job.words)
    assert not by_topology.runs("tests/test_tpu.py::test_pmap", slow=True)
    assert not any(job.runs("elsewhere/test_tpu.py::test_pmap", slow=True) for job in jobs)
