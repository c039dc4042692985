# shellcheck shell=bash
# What scripts/servers, scripts/test and .ci/run share. Sourced, never run.

# shellcheck disable=SC2034  # used by the scripts that source this file
ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# Everything built or downloaded for development. Safe to delete at any time: it is made again.
CACHE=${XDG_CACHE_HOME:-$HOME/.cache}/stanch-dev

# Messages go to stderr: stdout belongs to what a caller may read (`env`, `status`, cargo's own lines).
say() { printf '%s: %s\n' "${0##*/}" "$*" >&2; }
die() {
  say "$*"
  exit 1
}

# need COMMAND WHERE-IT-COMES-FROM
need() { command -v "$1" >/dev/null || die "needs '$1' ($2)"; }
