"""Any CSV file with a header."""

from collections.abc import Iterator

from pipeline.datasets.bad_rows import BadRows
from pipeline.datasets.files import Cells, Table, find_file, read_cells
from pipeline.errors import UserError


def find_files(path: str | None) -> list[str]:
    """The one file at `path`."""
    return [find_file(path)]


def open_table(paths: list[str], bad_rows: BadRows | None = None) -> Table:
    """The file's rows under the names in its header."""
    (path,) = paths
    records = read_cells(path, bad_rows=bad_rows)
    _, header = next(records, (0, []))
    columns = tuple(name.strip() for name in header)
    if not columns:
        raise UserError(f"{path}: is empty; a header with the columns' names and rows are expected. Check the file.")
    for column in columns:
        if column and columns.count(column) > 1:
            raise UserError(f"{path}, line 1: column {column!r} occurs twice in the header. Rename one of the two.")
    return Table(columns, _add_path(path, records))


def _add_path(path: str, records: Iterator[tuple[int, Cells]]) -> Iterator[tuple[str, int, Cells]]:
    for line, cells in records:
        yield path, line, cells
