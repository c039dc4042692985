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

# The security key without hardware that OpenSSH tests itself with: the installed one, else the one of Debian's package,
# unpacked into the cache, so that neither that nor the server that it depends on is installed. Prints its path.
security_key() {
  local installed=/usr/lib/openssh/regress/misc/sk-dummy/sk-dummy.so
  local own=$CACHE/openssh-tests$installed
  if [[ -e $installed ]]; then
    printf '%s' "$installed"
  elif [[ -e $own ]] || unpack_openssh_tests; then
    printf '%s' "$own"
  else
    die "the security key of OpenSSH's own tests is missing: apt-get install openssh-tests"
  fi
}

unpack_openssh_tests() {
  local folder
  command -v apt-get >/dev/null && command -v dpkg-deb >/dev/null || return 1
  folder=$(mktemp -d)
  say "downloading the package openssh-tests"
  # The lists of packages may be missing on a new machine.
  (cd "$folder" && { apt-get download openssh-tests || { apt-get update && apt-get download openssh-tests; }; }) >&2 &&
    dpkg-deb -x "$folder"/openssh-tests_*.deb "$folder/unpacked" && mkdir -p "$CACHE" &&
    rm -rf "$CACHE/openssh-tests" && mv "$folder/unpacked" "$CACHE/openssh-tests"
  local code=$?
  rm -rf "$folder"
  return "$code"
}
