"""UCI Adult (Census Income): adult.data and adult.test, without header, `?` for missing values."""

import os
from collections.abc import Iterator

import pipeline
from pipeline.datasets.bad_rows import BadRows
from pipeline.datasets.files import Cells, Table, find_file, read_cells

COLUMNS = (
    *("age", "workclass", "fnlwgt", "education", "education_num", "marital_status", "occupation", "relationship"),
    *("race", "sex", "capital_gain", "capital_loss", "hours_per_week", "native_country", "income"),
)
FILES = ("adult.data", "adult.test")
SAMPLE = os.path.join(os.path.dirname(pipeline.__file__), "sample_data", "adult")


def find_files(path: str | None) -> list[str]:
    """The files to read: the shipped sample (None), both files of a directory, or one file."""
    directory = SAMPLE if path is None else os.path.abspath(os.path.expanduser(path))
    if not os.path.isdir(directory):
        return [find_file(path)]
    names = [f"{name}{suffix}" for name in FILES for suffix in ("", ".gz")]
    found = [os.path.join(directory, name) for name in names if os.path.isfile(os.path.join(directory, name))]
    return found or [find_file(os.path.join(directory, FILES[0]))]


def open_table(paths: list[str], bad_rows: BadRows | None = None) -> Table:
    """The rows of all files, one after the other."""
    return Table(COLUMNS, _read_rows(paths, bad_rows))


def _read_rows(paths: list[str], bad_rows: BadRows | None) -> Iterator[tuple[str, int, Cells]]:
    for path in paths:
        # adult.test begins with "|1x3 Cross validator".
        for line, cells in read_cells(path, len(COLUMNS), comment="|", bad_rows=bad_rows):
            values = ["" if cell.strip() == "?" else cell for cell in cells]
            values[-1] = values[-1].strip().rstrip(".")  # labels in adult.test end in a full stop
            yield path, line, values
