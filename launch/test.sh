#!/usr/bin/env bash
# Runs the tests; further arguments go to pytest, for example: bash launch/test.sh --runslow
# --mutations plants mistakes in a copy of the checkout and expects tests to fail, see
# tests/mutations.py. EXTRAS=torch,hub and CONSTRAINTS=launch/lowest.txt as in environment.sh.
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh" dev

if [ "${1:-}" = --mutations ]; then
  shift
  exec .venv/bin/python tests/mutations.py "$@"
fi
# Files side by side on all cores, in the order of tests/conftest.py; the tests of a file share what
# they have trained.
.venv/bin/python -m pytest -n auto --dist loadfile --no-loadscope-reorder "$@"
