#!/usr/bin/env bash
# Run by `make demo`: a brief becomes a served champion, and the server draws out/digits.png.
set -euo pipefail
cd "$(dirname "$0")/.."
bin=.venv/bin
log=$(mktemp)
server=
finish() {
  [ -z "$server" ] || { kill "$server" 2>/dev/null && wait "$server" 2>/dev/null; } || true
  rm -f "$log"
}
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

"$bin/genwright" produce briefs/digits.yaml

port=$("$bin/python" -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
"$bin/genwright" serve digits@champion --port "$port" >"$log" 2>&1 &
server=$!
"$bin/python" infra/draw.py "http://127.0.0.1:$port" out/digits.png --pid "$server" || { cat "$log" >&2; exit 1; }
echo "demo: out/digits.png was drawn by the server; try: $bin/genwright serve digits@champion"
