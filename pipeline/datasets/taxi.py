"""Trips of Chicago taxis, as in TFX's example: does the passenger tip more than a fifth of the fare?"""

from collections.abc import Iterator

from pipeline.datasets import csv_file
from pipeline.datasets.bad_rows import BadRows
from pipeline.datasets.csv_file import find_files
from pipeline.datasets.files import Cells, Table
from pipeline.errors import UserError

LABEL = "is_big_tip"
MIN_SHARE = 0.2

__all__ = ["find_files", "open_table"]


def open_table(paths: list[str], bad_rows: BadRows | None = None) -> Table:
    """The CSV's rows with the label is_big_tip in place of tips, which would give the label away."""
    table = csv_file.open_table(paths, bad_rows)
    for column in ("fare", "tips"):
        if column not in table.columns:
            raise UserError(
                f"{paths[0]}: column {column!r} is missing, from which {LABEL} is computed. Columns in the file: "
                f"{', '.join(table.columns)}. For any other CSV use reader 'csv': python -m pipeline init --help."
            )
    columns = (*(column for column in table.columns if column != "tips"), LABEL)
    return Table(columns, _replace_tips(table, bad_rows or BadRows()))


def _replace_tips(table: Table, bad_rows: BadRows) -> Iterator[tuple[str, int, Cells]]:
    fare, tips = table.columns.index("fare"), table.columns.index("tips")
    for path, line, cells in table.rows:
        try:
            # As in TFX's example, a trip without a known fare or tip counts as one without a big tip.
            is_big = bool(cells[fare].strip() and cells[tips].strip()) and (
                float(cells[tips]) > MIN_SHARE * float(cells[fare])
            )
        except ValueError:
            message = f"{path}, line {line}: fare {cells[fare]!r} and tips {cells[tips]!r} must be numbers or empty"
            bad_rows.reject(f"{message}. Correct the line.")
            continue
        yield path, line, [*cells[:tips], *cells[tips + 1 :], str(int(is_big))]
