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

# The security key without hardware that OpenSSH tests itself with. Prints its path.
security_key() {
  packaged_file openssh-tests /usr/lib/openssh/regress/misc/sk-dummy/sk-dummy.so
}

# OpenSSH's server: $STANCH_TEST_SSHD, else the installed one, else Debian's package, unpacked where whoever runs it can read
# it. It is not run as root. Prints a program.
sshd() {
  local folder=$CACHE
  ((EUID != 0)) || folder=/var/tmp/stanch-dev
  local own=$folder/sshd
  if [[ -n ${STANCH_TEST_SSHD:-} ]]; then
    printf '%s' "$STANCH_TEST_SSHD"
  elif [[ -x /usr/sbin/sshd ]]; then
    printf '/usr/sbin/sshd'
  else
    [[ -x $own ]] || packaged_sshd "$folder" "$own" || die "sshd is missing: install it (Debian: package openssh-server), or set STANCH_TEST_SSHD"
    printf '%s' "$own"
  fi
}

# packaged_sshd CACHE PROGRAM: it calls itself again for each connection, so it is told where its libraries are.
packaged_sshd() (
  CACHE=$1
  mkdir -p "$CACHE"
  exec 9>"$2.lock"
  flock 9
  [[ ! -x $2 ]] || exit 0
  unpack_packages sshd-unpacked openssh-server libwrap0 || exit 1
  local root=$CACHE/sshd-unpacked libraries
  libraries=$(dirname "$(find "$root" -name 'libwrap.so.0' | head -1)")
  chmod -R a+rX "$root" || exit 1
  printf '#!/bin/sh\nLD_LIBRARY_PATH=%q exec %q "$@"\n' "$libraries" "$root/usr/sbin/sshd" >"$2.new"
  chmod 755 "$2.new"
  # Its version is all that it says without a configuration.
  "$2.new" -V >&2 || exit 1
  mv "$2.new" "$2"
) >&2

# packaged_file PACKAGE PATH: the installed file, else the one of Debian's package, unpacked into the cache, so that
# neither that nor what it depends on is installed. Prints its path.
packaged_file() {
  local own=$CACHE/$1$2
  if [[ -e $2 ]]; then
    printf '%s' "$2"
  elif [[ -e $own ]] || unpack_packages "$1" "$1"; then
    printf '%s' "$own"
  else
    die "$2 is missing: apt-get install $1"
  fi
}

# unpack_packages NAME PACKAGE…: Debian's packages, unpacked into CACHE/NAME and not installed.
unpack_packages() {
  local name=$1 folder
  shift
  command -v apt-get >/dev/null && command -v dpkg-deb >/dev/null || return 1
  folder=$(mktemp -d)
  say "downloading $*"
  # The lists of packages may be missing on a new machine.
  (cd "$folder" && { apt-get download "$@" || { apt-get update && apt-get download "$@"; }; }) >&2 &&
    printf '%s\0' "$folder"/*.deb | xargs -0 -I{} dpkg-deb -x {} "$folder/unpacked" &&
    mkdir -p "$CACHE" && rm -rf "${CACHE:?}/$name" && mv "$folder/unpacked" "$CACHE/$name"
  local code=$?
  rm -rf "$folder"
  return "$code"
}

# make_venv FOLDER REQUIREMENTS: by hash, and wheels only, so that no package runs code at its installation.
make_venv() {
  need python3 "Python 3.11 or newer"
  python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' || die "needs Python 3.11 or newer; python3 on PATH is $(python3 --version 2>&1)"
  python3 -m venv "$1" >&2 || die "python3 cannot make virtual environments; install its venv module (Debian: package python3-venv)"
  "$1/bin/python" -m pip install --quiet --disable-pip-version-check --no-input \
    --require-hashes --only-binary :all: -r "$2" >&2 9>&-
}

# packaged NAME TITLE OTHERWISE: prints the environment of tests/servers/requirements-NAME.txt. Its folder's name holds a
# digest of the lock file, so that a new lock makes a new environment. PostgreSQL does not run as root, and reads it.
packaged() {
  local name=$1 title=$2 otherwise=$3 folder=$CACHE venv
  [[ $name != postgres ]] || ((EUID != 0)) || folder=/var/tmp/stanch-dev
  venv=$folder/venv-$name-$(sha256sum "$ROOT/tests/servers/requirements-$name.txt" | cut -c1-12)
  # It can outlive the Python that it was made with: ask it, not only the mark.
  if ! [[ -e $venv/complete ]] || ! "$venv/bin/python" -c '' 2>/dev/null; then
    mkdir -p "$folder"
    (
      flock 9
      # Another process may have made it while this one waited.
      ! { [[ -e $venv/complete ]] && "$venv/bin/python" -c '' 2>/dev/null; } || exit 0
      say "installing $title from PyPI, once"
      rm -rf "$venv"
      make_venv "$venv" "$ROOT/tests/servers/requirements-$name.txt" || die "$title could not be installed; $otherwise"
      touch "$venv/complete" # last: it says that nothing is missing
    ) 9>"$venv.lock" >&2
  fi
  printf '%s' "$venv"
}

# A Python that knows OpenTelemetry's published definitions of OTLP. Prints its path.
otlp_python() {
  local venv
  venv=$(packaged otlp "OpenTelemetry's definitions of OTLP" "mend what pip names above and try again")
  printf '%s' "$venv/bin/python"
}
