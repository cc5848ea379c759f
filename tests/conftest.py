"""Settings of the whole suite: eight virtual devices, warnings as errors, slow tests on demand."""

import os

import jax
import pytest

if not os.environ.get("JAX_NUM_CPU_DEVICES"):
    jax.config.update("jax_num_cpu_devices", 8)


def pytest_addoption(parser):
    parser.addoption("--runslow", action="store_true", help="run tests marked slow too")


def pytest_collection_modifyitems(config, items):
    if config.getoption("--runslow"):
        return
    skip = pytest.mark.skip(reason="slow; runs with --runslow")
    for item in items:
        if "slow" in item.keywords:
            item.add_marker(skip)


@pytest.fixture(scope="session", autouse=True)
def compilation_cache(tmp_path_factory):
    """The same small programs are compiled by many tests; once is enough."""
    if not jax.config.jax_compilation_cache_dir:
        jax.config.update("jax_compilation_cache_dir", str(tmp_path_factory.mktemp("xla")))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
