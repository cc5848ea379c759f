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

# What is installed is written down, extras first, so that later runs start at once; new
# requirements or constraints, and extras that are not there yet, install.
record=.venv/installed
requirements="$(cat setup.cfg pyproject.toml ${constraints:+"$constraints"})"
if [ ! -x .venv/bin/python ]; then
  "$python" -m venv .venv
fi
if [ "$(tail -n +2 "$record" 2>/dev/null)" = "$requirements" ]; then
  there="$(head -n 1 "$record")" missing=
else
  there="" missing=all
fi
for extra in ${extras//,/ }; do
  if [[ ",$there," != *",$extra,"* ]]; then
    there="${there:+$there,}$extra" missing=some
  fi
done
if [ -n "$missing" ]; then
  rm -f "$record"
  .venv/bin/python -m pip install --quiet --disable-pip-version-check \
    ${constraints:+--constraint "$constraints"} -e ".${extras:+[$extras]}"
  printf '%s\n%s' "$there" "$requirements" > "$record"
fi
