#!/usr/bin/env bash
# Recompiles requirements/*.txt from *.in. No --emit-index-url: host names are never committed.
set -euo pipefail
cd "$(dirname "$0")/../requirements"
options=(--quiet --upgrade --python-version 3.11 --python-platform x86_64-manylinux_2_40 --generate-hashes
  --no-emit-index-url --no-header --no-annotate)
for name in library-test pipeline dev; do
  uv pip compile "${options[@]}" --output-file "$name.txt" "$name.in"
done
# gpu.txt is installed beside pipeline.txt: for its versions, and without its packages.
mapfile -t locked < <(sed -nE 's/^([A-Za-z0-9._-]+)==.*/\1/p' pipeline.txt)
uv pip compile "${options[@]}" --constraints pipeline.txt "${locked[@]/#/--no-emit-package=}" --output-file gpu.txt gpu.in
