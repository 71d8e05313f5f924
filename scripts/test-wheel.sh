#!/usr/bin/env bash
# Builds the wheel, installs it without TFX in a fresh venv outside the repository, and runs against it those of the
# library's tests that packaging can break; the others run the same code as `make test` did.
set -euo pipefail
cd "$(dirname "$0")/.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

rm -rf build # a file that was deleted since would come along
.venv/bin/python -m build --wheel --outdir "$work/dist" . >"$work/build.log" 2>&1 || { cat "$work/build.log" >&2; exit 1; }
.venv/bin/python -m venv "$work/venv"
VIRTUAL_ENV=$work/venv .venv/bin/uv pip install -q --require-hashes -r requirements/library-test.txt
VIRTUAL_ENV=$work/venv .venv/bin/uv pip install -q --no-deps "$work"/dist/*.whl

# Copied: beside the repository's root, its packages would be imported instead of the wheel's.
mkdir "$work/copy"
cp --parents -r tests/__init__.py tests/conftest.py tests/keras_dimgrow examples pipeline/sample_data/adult pyproject.toml "$work/copy"
installed=$(cd "$work" && "$work/venv/bin/python" -c 'import keras_dimgrow; print(keras_dimgrow.__file__)' 2>/dev/null)
case "$installed" in "$work"/venv/*) ;; *) echo "the wheel was not imported, but $installed" >&2; exit 1 ;; esac
if (cd "$work" && "$work/venv/bin/python" -c 'import tests' 2>/dev/null); then
  echo "the wheel installs a package named tests" >&2
  exit 1
fi
cd "$work/copy"
"$work/venv/bin/python" -m serving --help >/dev/null
# public_api, doctests: what is exported; every module is imported, and every docstring's example runs, a search and a
# retraining among them. report: a file that is no module. growable, layer_contract: what Keras saved is found again by its
# registered name, also by a process that only imports the library. plan, config: files. random: a method's whole search.
# examples: programs beside the library. That the wheel holds every file of the packages is told by `make test`
# (tests/pipeline/test_image.py).
"$work/venv/bin/python" -m pytest -n logical --maxprocesses 4 --dist loadfile \
  tests/keras_dimgrow/test_{growable,layer_contract,doctests,examples,public_api,report,plan,config}.py \
  tests/keras_dimgrow/methods/test_random.py
