#!/usr/bin/env bash
# Makes .venv from the locks, hashes checked. Run by `make setup`; returns at once when the locks have not changed.
# UV_FIND_LINKS (or pip's find-links) may name a folder with the CPU build of torch: a twentieth of the CUDA build's download.
set -euo pipefail
cd "$(dirname "$0")/.."
venv=.venv
stamp=$venv/.installed
want=$(cat requirements*.lock pyproject.toml | sha256sum)
[ -f "$stamp" ] && [ "$(cat "$stamp")" = "$want" ] && exit 0

python=${PYTHON:-python3}
"$python" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' || {
  echo "setup: $("$python" --version) found, Python 3.11 to 3.13 needed; name one: make setup PYTHON=python3.12" >&2; exit 2; }
[ -x "$venv/bin/python" ] || "$python" -m venv "$venv"
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check 'uv==0.13.9' 2> >(grep -v 'is ignored' >&2)
if [ -z "${UV_FIND_LINKS:-}" ]; then
  links=${PIP_FIND_LINKS:-$("$venv/bin/python" -m pip config get global.find-links 2>/dev/null || true)}
  [ -z "$links" ] || export UV_FIND_LINKS=${links// /,}
fi
# The locks hold the whole closure, so --no-deps: uv checks every hash and resolves nothing.
install() { VIRTUAL_ENV=$venv "$venv/bin/uv" pip install --quiet --no-deps --require-hashes "$@"; }
torch=requirements-cuda.lock
if ! command -v nvidia-smi >/dev/null && install --dry-run -r requirements-cpu.lock 2>/dev/null; then torch=requirements-cpu.lock; fi
install -r requirements.lock -r $torch
VIRTUAL_ENV=$venv "$venv/bin/uv" pip install --quiet --no-deps --editable .
echo "$want" >"$stamp"
echo "setup: .venv is ready ($("$venv/bin/python" --version), torch from $torch)"
