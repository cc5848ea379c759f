#!/usr/bin/env bash
# Runs the tests; further arguments go to pytest, for example: bash launch/test.sh --runslow
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh" dev

# Files side by side on all cores; the tests of a file share what they have trained.
.venv/bin/python -m pytest -n auto --dist loadfile "$@"
