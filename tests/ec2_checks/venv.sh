#!/bin/sh
# Makes the virtual environment that the checks run in, unless it is there for these very requirements; prints its python.
# usage: venv.sh [DIRECTORY]
set -eu
here=$(cd "$(dirname "$0")" && pwd)
venv=${1:-${XDG_CACHE_HOME:-$HOME/.cache}/berth/ec2_checks}
if ! cmp -s "$here/requirements.txt" "$venv/installed.txt"; then
    rm -rf "$venv"
    python3 -m venv "$venv" >&2
    "$venv/bin/pip" --quiet --disable-pip-version-check install --requirement "$here/requirements.txt" >&2
    cp "$here/requirements.txt" "$venv/installed.txt"
fi
echo "$venv/bin/python"
