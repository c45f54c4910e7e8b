#!/bin/sh
# Makes a virtual environment unless it is there for this very lock file; prints its python. In seconds: uv, which pip brings.
# usage: venv.sh [--for localstack|moto|tools] [DIRECTORY]
#   localstack   LocalStack with our package: the default
#   moto         moto's server with our package
#   tools        ruff, mypy and pytest
# A package of ours that is in a virtual environment is a copy; this command renews it when it differs.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
cache=${XDG_CACHE_HOME:-$HOME/.cache}/berth
kind=localstack
if [ "${1:-}" = --for ]; then
    kind=$2
    shift 2
fi
lock=$here/lock/$kind.txt
[ -f "$lock" ] || {
    echo "venv.sh: there is no $lock" >&2
    exit 64
}
case $kind in
tools) default=$cache/python-tools ;;
*) default=$cache/$kind ;;
esac
venv=${1:-$default}

python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' || {
    echo "venv.sh: needs Python 3.11 or later, and python3 is $(python3 --version)" >&2
    exit 1
}

# Several may come at once: labs, tests.
mkdir -p "$cache" "$(dirname "$venv")"
exec 9>"$cache/venv.lock"
flock 9

# uv, checked by its hashes, in a place of its own.
uv=$cache/uv/bin/uv
if ! cmp -s "$here/lock/uv.txt" "$cache/uv/installed.txt"; then
    rm -rf "$cache/uv"
    python3 -m venv "$cache/uv" >&2
    "$cache/uv/bin/pip" --quiet --disable-pip-version-check install --require-hashes --requirement "$here/lock/uv.txt" >&2
    cp "$here/lock/uv.txt" "$cache/uv/installed.txt"
fi

# The same lock under another Python is another environment.
wanted=$(python3 --version && cat "$lock")
if [ "$wanted" != "$(cat "$venv/installed.txt" 2>/dev/null)" ]; then
    echo "venv.sh: making $venv" >&2
    rm -rf "$venv"
    python3 -m venv --without-pip "$venv" >&2
    "$uv" --quiet --no-config --cache-dir "$cache/uv/cache" pip install --python "$venv/bin/python" --require-hashes \
        --build-constraint "$here/lock/build.txt" --requirement "$lock" >&2
    # What a start and the first call import is compiled here, also where Python is told to write no bytecode: 5 s a start.
    case $kind in
    localstack)
        # Its index of AWS services: the first call would wait for it. See berth_ec2/localstack.py.
        index=$venv/berth-service-catalog
        mkdir "$index"
        env -u PYTHONDONTWRITEBYTECODE "$venv/bin/python" - "$index" >&2 <<'PYTHON'
import sys
from pathlib import Path

import localstack.runtime.main
import localstack.runtime.server.hypercorn
import localstack.aws.app
import localstack.services.ec2.provider
import localstack.services.iam.provider
from localstack.aws import spec

spec.build_service_index_cache(str(Path(sys.argv[1]) / spec._get_catalog_filename()))
PYTHON
        ;;
    moto) env -u PYTHONDONTWRITEBYTECODE "$venv/bin/python" -c 'import moto.server, moto.ec2.urls, moto.iam.urls, moto.sts.urls' >&2 ;;
    esac
    printf '%s\n' "$wanted" >"$venv/installed.txt"
fi

if [ "$kind" != tools ]; then
    site=$(echo "$venv"/lib/python3.*/site-packages)
    if ! diff -qr -x __pycache__ "$here/berth_ec2" "$site/berth_ec2" >/dev/null 2>&1 ||
        ! cmp -s "$here/pyproject.toml" "$site/berth_ec2-0.1.0.dist-info/pyproject.toml"; then
        rm -rf "$site/berth_ec2" "$site/berth_ec2-0.1.0.dist-info"
        cp -R "$here/berth_ec2" "$site/berth_ec2"
        rm -rf "$site/berth_ec2/__pycache__"
        # What an installer would write for pyproject.toml.
        mkdir "$site/berth_ec2-0.1.0.dist-info"
        cp "$here/pyproject.toml" "$site/berth_ec2-0.1.0.dist-info/"
        printf 'Metadata-Version: 2.1\nName: berth_ec2\nVersion: 0.1.0\n' >"$site/berth_ec2-0.1.0.dist-info/METADATA"
        printf '[localstack.hooks.on_infra_start]\nberth_ec2 = berth_ec2.localstack:on_infra_start\n' \
            >"$site/berth_ec2-0.1.0.dist-info/entry_points.txt"
        "$venv/bin/python" -m compileall -q "$site/berth_ec2"
    fi
fi
echo "$venv/bin/python"
