# Makes .venv in the checkout and installs moa_jax there; sourced by the scripts beside it.
# Usage: source launch/environment.sh [EXTRA,...]
# EXTRAS names further extras; CONSTRAINTS is a file of versions for pip, such as launch/lowest.txt.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

extras="${1:-}${EXTRAS:+,$EXTRAS}"
extras="${extras#,}"
constraints="${CONSTRAINTS:-}"
python="${PYTHON:-python3}"
if ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
  echo "moa-jax needs Python 3.11 or newer; PYTHON=/path/to/python names another one" >&2
  exit 1
fi

# What is installed is written down, so that later runs start at once; new requirements, extras or
# constraints install again.
wanted="$(cat setup.cfg pyproject.toml ${constraints:+"$constraints"}) $extras"
if [ ! -x .venv/bin/python ]; then
  "$python" -m venv .venv
fi
if [ "$(cat .venv/installed 2>/dev/null)" != "$wanted" ]; then
  .venv/bin/python -m pip install --quiet --disable-pip-version-check \
    ${constraints:+--constraint "$constraints"} -e ".${extras:+[$extras]}"
  printf '%s' "$wanted" > .venv/installed
fi
