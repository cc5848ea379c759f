"""Settings of all tests: eight virtual devices, quick compilation, slow tests on demand."""

import ctypes
import gc
import logging
import os
import signal
import sys
from pathlib import Path

import jax
import pytest

from moa_jax.training import reuse

# Files and folders that take minutes, the longest first. They come before all others, so that
# workers, which take a file at a time, end together.
LONGEST = (
    "e2e/test_three_stage.py", "e2e/test_launch.py", "trust/test_grid.py", "test_honest.py",
    "test_loop.py", "test_tabnet.py", "e2e/", "test_mechanism_classifier.py",
    "test_image_networks.py", "trust/",
)  # fmt: skip
# Resident memory above which a module leaves nothing compiled to the next one.
MOST_BYTES = 1500 * 2**20

if not os.environ.get("JAX_NUM_CPU_DEVICES"):
    jax.config.update("jax_num_cpu_devices", 8)
# Most programs here run for milliseconds and are compiled for seconds. Processes that tests start
# take it over. With JAX_DISABLE_MOST_OPTIMIZATIONS=0 everything is compiled as in the product.
os.environ["JAX_DISABLE_MOST_OPTIMIZATIONS"] = (
    os.environ.get("JAX_DISABLE_MOST_OPTIMIZATIONS") or "1"
)
QUICK = os.environ["JAX_DISABLE_MOST_OPTIMIZATIONS"] != "0"
jax.config.update("jax_disable_most_optimizations", QUICK)
# Most of what is left of compiling is MLIR's, which emits the fused kernels; XLA's own emitters
# take less than half the time. All versions of jaxlib that are allowed know the flag, and an
# unknown one would end the process.
EMITTERS = "xla_cpu_use_fusion_emitters"
if QUICK:
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} --{EMITTERS}=false".strip()


def pytest_addoption(parser):
    parser.addoption("--runslow", action="store_true", help="run tests marked slow too")
    parser.addoption("--kills", type=int, help="how many kills test_kill.py makes at least")


def pytest_configure():
    # A shell has what is in the background ignore Ctrl-C, as all that tests start would then.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(config, items):
    items.sort(key=rank)
    if config.getoption("--runslow"):
        return
    skip = pytest.mark.skip(reason="slow; runs with --runslow")
    for item in items:
        if "slow" in item.keywords:
            item.add_marker(skip)


def rank(item):
    """The place of a test's file among the longest; all others are equal, after them."""
    path = Path(os.path.relpath(item.path, Path(__file__).parent)).as_posix()
    return next((n for n, long in enumerate(LONGEST) if path.startswith(long)), len(LONGEST))


@pytest.fixture(scope="session", autouse=True)
def compilation_cache(tmp_path_factory):
    """The same small programs are compiled by many tests; once is enough."""
    if not jax.config.jax_compilation_cache_dir:
        jax.config.update("jax_compilation_cache_dir", str(tmp_path_factory.mktemp("xla")))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)


@pytest.fixture
def optimised(monkeypatch):
    """Compiles as the product does, where the subject is what optimisation may change.

    What a test calls through `jax.jit` alone is optimised too, but keeps XLA's own emitters.
    """
    quickly = jax.stages.Lowered.compile

    def fully(lowered, options=None):
        return quickly(lowered, {EMITTERS: True, **(options or {})})

    monkeypatch.setattr(jax.stages.Lowered, "compile", fully)
    jax.config.update("jax_disable_most_optimizations", False)
    yield
    jax.config.update("jax_disable_most_optimizations", QUICK)


@pytest.fixture(scope="module", autouse=True)
def programs():
    """Gives the memory of a module's compiled programs back where they have become many.

    The programs of deep networks take a gigabyte a module; of small ones the next module may
    have the same, and nothing is gained by compiling these again.
    """
    yield
    if sys.platform == "linux" and resident_bytes() > MOST_BYTES:
        jax.clear_caches()
        reuse.PROGRAMS.clear()
        gc.collect()
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc's; others have none
        if trim:
            trim(0)


@pytest.fixture(autouse=True)
def own_log():
    """absl's logger as it is at the start, whatever the tests before it in this process set.

    A run sets its level, and a test that reads lines of the log would find none below it.
    """
    log = logging.getLogger("absl")
    log.setLevel(logging.NOTSET)
    log.propagate = True


@pytest.fixture(autouse=True)
def own_programs(request):
    """What a test puts in a function's place shall be in its programs, and in no other's."""
    patches = "monkeypatch" in request.fixturenames
    if patches:
        reuse.PROGRAMS.clear()
    yield
    if patches:
        reuse.PROGRAMS.clear()


def resident_bytes():
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")
