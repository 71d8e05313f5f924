"""Avazu click-through rate prediction (Kaggle's train.csv)."""

from collections.abc import Iterator

from pipeline.datasets import csv_file
from pipeline.datasets.csv_file import find_files
from pipeline.datasets.files import Cells, Table
from pipeline.errors import UserError

__all__ = ["find_files", "open_table"]


def open_table(paths: list[str]) -> Table:
    """The file's rows without `id`, which is unique, and with `hour_of_day` (00 to 23) besides `hour` (YYMMDDHH)."""
    table = csv_file.open_table(paths)
    for column in ("id", "hour"):
        if column not in table.columns:
            raise UserError(
                f"{paths[0]}: column {column!r} is missing; Avazu's train.csv is expected. Columns in the file: "
                f"{', '.join(table.columns)}. For any other CSV use reader 'csv': python -m pipeline init --help."
            )
    columns = (*(column for column in table.columns if column != "id"), "hour_of_day")
    return Table(columns, _derive_hour(table))


def _derive_hour(table: Table) -> Iterator[tuple[str, int, Cells]]:
    id_, hour = table.columns.index("id"), table.columns.index("hour")
    for path, line, cells in table.rows:
        text = cells[hour].strip()
        if text and not (len(text) == 8 and text.isdecimal() and text[-2:] < "24"):
            message = f"{path}, line {line}, column 'hour': {text!r} does not have the form YYMMDDHH"
            raise UserError(f"{message}. Correct the line.")
        yield path, line, [*cells[:id_], *cells[id_ + 1 :], text[-2:]]
