"""Criteo display advertising (Kaggle's train.txt): tab-separated, no header, empty cells are missing."""

from collections.abc import Iterator

from pipeline.datasets.csv_file import find_files
from pipeline.datasets.files import Cells, Table, read_cells

COLUMNS = ("label", *(f"I{i}" for i in range(1, 14)), *(f"C{i}" for i in range(1, 27)))

__all__ = ["find_files", "open_table"]


def open_table(paths: list[str]) -> Table:
    """The file's rows: label, I1 to I13 (counts) and C1 to C26 (hashed categories)."""
    return Table(COLUMNS, _read_rows(paths[0]))


def _read_rows(path: str) -> Iterator[tuple[str, int, Cells]]:
    for line, cells in read_cells(path, num_cells=len(COLUMNS), delimiter="\t"):
        yield path, line, cells
