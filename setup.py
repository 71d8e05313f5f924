"""Builds the distribution; all metadata stands in pyproject.toml."""

import setuptools

if int(setuptools.__version__.split(".")[0]) < 77:
    raise SystemExit(
        f"setuptools {setuptools.__version__} is too old to read this project's metadata (PEP 639 licence); needs >= 77. "
        "Upgrade it: python -m pip install --upgrade setuptools"
    )

setuptools.setup()
