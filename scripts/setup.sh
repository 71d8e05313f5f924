#!/usr/bin/env bash
# Makes .venv with everything that `make run` and `make test` need; does nothing when nothing is missing.
# SETUP=library installs keras_dimgrow's own dependencies only (for systems that cannot run TFX).
set -euo pipefail
cd "$(dirname "$0")/.."

SETUP=${SETUP:-all}
VENV=${VENV:-.venv}
say() { printf 'setup: %s\n' "$*" >&2; }
fail() { say "$*"; exit 2; }

find_python() {
  local candidate
  for candidate in "${PYTHON:-}" python3.11 python3 python; do
    [ -n "$candidate" ] && command -v "$candidate" >/dev/null 2>&1 || continue
    "$candidate" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' 2>/dev/null && { echo "$candidate"; return; }
  done
  fail "Python 3.11 is needed (tfx 1.21 and its kfp extra support no newer one) and none was found." \
       "Install it (pyenv install 3.11, or your system's python3.11) and name it: make setup PYTHON=/path/to/python3.11"
}

# tfx 1.21 depends on ml-metadata and tensorflow-data-validation, whose wheels are manylinux_2_39: they need glibc 2.39.
ensure_glibc() {
  local version; version=$(getconf GNU_LIBC_VERSION 2>/dev/null | awk '{print $2}') || version=
  [ -n "$version" ] || fail "this system has no GNU C library; TFX runs on Linux with glibc >= 2.39. The library alone: make test-library"
  [ "$(printf '%s\n2.39\n' "$version" | sort -V | head -n 1)" = 2.39 ] && return
  local id="" codename=""
  if [ -r /etc/os-release ]; then
    id=$(. /etc/os-release; echo "${ID:-}"); codename=$(. /etc/os-release; echo "${VERSION_CODENAME:-}")
  fi
  if [ "$id/$codename" != debian/bookworm ] || [ "$(id -u)" != 0 ]; then
    fail "glibc $version is too old for tfx 1.21 (needs 2.39: Ubuntu 24.04, Debian 13 or newer)." \
         "Use such a system or container image; on Debian 12 run 'make setup' as root, and it brings Debian 13's C library." \
         "keras_dimgrow alone works here: make test-library"
  fi
  say "glibc $version is too old for tfx 1.21 (needs 2.39). Bringing libc6 and libstdc++6 from Debian 13 (trixie), pinned so that nothing else moves."
  local mirror keyring
  mirror=$({ cat /etc/apt/sources.list /etc/apt/sources.list.d/* 2>/dev/null || true; } |
    sed -nE 's/^URIs:[[:space:]]*([^ ]+\/debian)\/?[[:space:]]*$/\1/p; s/^deb[[:space:]]+(\[[^]]*\][[:space:]]+)?([^ ]+\/debian)\/?[[:space:]].*/\2/p' | sed -n 1p)
  [ -n "$mirror" ] || fail "no Debian mirror found in /etc/apt: add one, or use a system with glibc >= 2.39."
  keyring=/usr/share/keyrings/debian-archive-keyring.gpg
  printf 'Types: deb\nURIs: %s\nSuites: trixie\nComponents: main\nSigned-By: %s\n' "$mirror" "$keyring" \
    > /etc/apt/sources.list.d/keras-dimgrow-trixie.sources
  printf 'Package: *\nPin: release n=trixie\nPin-Priority: 100\n' > /etc/apt/preferences.d/keras-dimgrow-trixie
  export DEBIAN_FRONTEND=noninteractive
  apt-get update -qq >&2
  apt-get install -y -qq --no-install-recommends -t trixie \
    -o Dpkg::Options::=--force-confdef -o Dpkg::Options::=--force-confold libc6 libstdc++6 >&2
  say "glibc is now $(getconf GNU_LIBC_VERSION | awk '{print $2}')"
}

requirements=requirements/dev.txt
if [ "$SETUP" = library ]; then requirements=requirements/library-test.txt; else ensure_glibc; fi
python=$(find_python)
fingerprint=$(cat "$requirements" setup.py pyproject.toml scripts/setup.sh | sha256sum | cut -d ' ' -f 1)
stamp=$VENV/.setup-$SETUP
if [ -x "$VENV/bin/python" ] && [ "$(cat "$stamp" 2>/dev/null)" = "$fingerprint" ]; then exit 0; fi

say "installing into $VENV (some minutes the first time)"
[ -x "$VENV/bin/python" ] || "$python" -m venv "$VENV"
"$VENV/bin/python" -m pip install -q --disable-pip-version-check "uv>=0.9"
VIRTUAL_ENV=$VENV "$VENV/bin/uv" pip install -q --require-hashes -r "$requirements"
VIRTUAL_ENV=$VENV "$VENV/bin/uv" pip install -q --no-deps -e .
printf '%s' "$fingerprint" > "$stamp"
say "done"
