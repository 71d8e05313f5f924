"""Fixtures of the readers' tests."""

import pytest

from tests.pipeline.small_run import make_small_run


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


@pytest.fixture(scope="session")
def small_run(tmp_path_factory):
    return make_small_run(tmp_path_factory.mktemp("small-run"))
