"""Fixtures of the readers' tests."""

import pytest


@pytest.fixture
def root(tmp_path):
    return tmp_path / "runs" / "root"


@pytest.fixture
def write(tmp_path):
    def write(text: str | bytes, name: str = "rows.csv") -> str:
        path = tmp_path / name
        path.write_bytes(text.encode() if isinstance(text, str) else text)
        return str(path)

    return write
