"""Files of separated text, read record by record, never as a whole."""

import csv
import dataclasses
from collections.abc import Iterator

from pipeline.datasets.bad_rows import BadRows
from pipeline.datasets.inputs import find_inputs, open_input, reading
from pipeline.errors import UserError

Cells = list[str]


@dataclasses.dataclass(frozen=True)
class Table:
    """Rows of a source under names.

    Attributes:
        columns: the names that a configuration may use.
        rows: (file, line number of the row's first line, one cell a column), to be read once.
    """

    columns: tuple[str, ...]
    rows: Iterator[tuple[str, int, Cells]]


def find_file(path: str | None) -> str:
    """The one file that `path` names; UserError if there is none, or more than one."""
    files = find_inputs(path)
    if len(files) > 1:
        raise UserError(f"{path}: matches {len(files)} files; this reader takes one. Name it: --data {files[0]}.")
    return files[0]


def read_cells(
    path: str, num_cells: int | None = None, comment: str | None = None, bad_rows: BadRows | None = None
) -> Iterator[tuple[int, Cells]]:
    """Yields (line number, cells) of every record that is not blank.

    Args:
        path: plain, .gz or .zst file in UTF-8, its cells separated by commas; may be remote.
        num_cells: what every record must have; None: as many as the first.
        comment: lines that begin with it are skipped.
        bad_rows: what to do with text that is not UTF-8, a quote that is not closed or another number of cells; None: fail.

    Raises:
        UserError: for a file that cannot be read, a broken compressed one, or a bad row (see `bad_rows`).
    """
    bad_rows = bad_rows or BadRows()
    reader = csv.reader(_read_lines(path, bad_rows), skipinitialspace=True)
    while True:
        line = reader.line_num + 1
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            bad_rows.reject(f"{path}, line {line}: not a valid record ({error}). Is a quote not closed?")
            continue
        is_blank = len(cells) <= 1 and not "".join(cells).strip()
        if is_blank or (comment is not None and cells[0].startswith(comment)):
            continue
        if num_cells is None:
            num_cells = len(cells)
        if len(cells) != num_cells:
            bad_rows.reject(describe_count(path, line, len(cells), num_cells))
            continue
        yield line, cells


def describe_count(path: str, line: int, num_cells: int, num_expected: int, delimiter: str = ",") -> str:
    """What is said of a line with too few or too many cells."""
    quotes = f" (a cell that contains {delimiter!r} must be in double quotes)" if delimiter == "," else ""
    return (
        f"{path}, line {line}: {num_cells} cells, but {num_expected} are expected. Correct or remove the line{quotes}."
    )


def decode_line(line: bytes, path: str, number: int) -> str:
    """The text of a line; UserError if it is not UTF-8."""
    try:
        # Line by line, not by a text wrapper, because that decodes ahead and cannot tell the line of an error.
        return line.decode("utf-8-sig" if number == 1 else "utf-8")
    except UnicodeDecodeError as error:
        byte = error.object[error.start : error.start + 1]
        raise UserError(
            f"{path}, line {number}: not UTF-8 text (byte {byte!r} at position {error.start}). Save the file as UTF-8, "
            "for example: iconv -f ISO-8859-1 -t UTF-8 OLD > NEW."
        ) from error


def _read_lines(path: str, bad_rows: BadRows) -> Iterator[str]:
    number = 0
    with open_input(path) as stream:
        while True:
            with reading(path, number):
                line = stream.readline()
            if not line:
                return
            number += 1
            try:
                text = decode_line(line, path, number)
            except UserError as error:
                bad_rows.reject(str(error))
                continue
            yield text
