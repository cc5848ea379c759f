#!/usr/bin/env bash
# Runs the tests; further arguments go to pytest, for example: bash launch/test.sh --runslow
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh" dev

.venv/bin/python -m pytest "$@"
