#!/usr/bin/env bash
# Recompiles requirements/*.txt from *.in. No --emit-index-url: host names are never committed.
set -euo pipefail
cd "$(dirname "$0")/../requirements"
for name in library-test pipeline dev; do
  uv pip compile --quiet --upgrade --python-version 3.11 --python-platform x86_64-manylinux_2_40 --generate-hashes \
    --no-emit-index-url --no-header --no-annotate --output-file "$name.txt" "$name.in"
done
