# Read by the other scripts: where things are, and how they speak. Not run by itself.
# shellcheck shell=bash disable=SC2034

set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# Everything that is built and can be built again lives outside the checkout, so that a fresh clone finds it.
cache="${XDG_CACHE_HOME:-$HOME/.cache}/berth"
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-$cache/target}"
export BERTH_BIN_DIR="${BERTH_BIN_DIR:-$CARGO_TARGET_DIR/berth-bin}"
tools="$cache/tools"
musl=x86_64-unknown-linux-musl

# Programs of root are in sbin, which `su` without a dash leaves out.
export PATH="$PATH:/usr/local/sbin:/usr/sbin:/sbin"

# The four programs are built, and tested, with this one set of packages: another set would give a shared dependency other
# features, and the EC2 SDK would be compiled again (six minutes).
shipped=(-p ipamd -p ipamctl -p lab -p cloud-aws)

say() { printf '%s: %s\n' "${0##*/}" "$*"; }

stop() {
    say "$*" >&2
    exit 1
}

# step WHAT COMMAND...: runs it, and says what it is and how long it took.
step() {
    local what=$1 began=$SECONDS
    shift
    say "$what"
    "$@" || stop "FAILED: $what (after $((SECONDS - began)) s): $*"
    say "ok: $what ($((SECONDS - began)) s)"
}

# place FILE NAME: puts a program into $BERTH_BIN_DIR. Renamed into place: one that runs keeps its file.
place() {
    local new
    mkdir -p "$BERTH_BIN_DIR"
    new=$(mktemp "$BERTH_BIN_DIR/.$2.XXXXXX")
    cp -p "$1" "$new"
    mv -f "$new" "$BERTH_BIN_DIR/$2"
}
