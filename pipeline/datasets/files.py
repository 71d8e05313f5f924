"""Files of separated text: found, opened (plain or .gz) and read record by record, never as a whole."""

import csv
import dataclasses
import gzip
import os
import zlib
from collections.abc import Iterator
from typing import Literal

from pipeline.config_values import did_you_mean
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
    """Absolute path of an existing file.

    Raises:
        UserError: if there is none; it names files with similar names.
    """
    absolute = os.path.abspath(os.path.expanduser(path or ""))
    if os.path.isfile(absolute):
        return absolute
    if os.path.isdir(absolute):
        raise UserError(f"{path}: is a directory; a file is needed. Name the file itself: --data {path}/FILE.")
    if "://" in str(path):
        raise UserError(f"{path}: only local files are read. Copy the file to this machine and give its path.")
    folder, name = os.path.split(absolute)
    if not os.path.isdir(folder):
        raise UserError(f"{path}: no such file, nor the directory {folder}. Check the path (--data PATH or data.path).")
    hint = did_you_mean(name, sorted(os.listdir(folder)))
    raise UserError(f"{path}: no such file in {folder}.{hint} Check the path (--data PATH or data.path).")


def read_cells(
    path: str, num_cells: int | None = None, delimiter: str = ",", comment: str | None = None
) -> Iterator[tuple[int, Cells]]:
    """Yields (line number, cells) of every record that is not blank.

    Args:
        path: plain or gzip (.gz) file in UTF-8.
        num_cells: what every record must have; None: as many as the first.
        delimiter: what separates the cells. Double quotes around a cell are taken off, except between tabs.
        comment: lines that begin with it are skipped.

    Raises:
        UserError: for text that is not UTF-8, a broken .gz file, a quote that is not closed or another number of cells.
    """
    is_quoted = delimiter != "\t"
    quoting: Literal[0, 3] = csv.QUOTE_MINIMAL if is_quoted else csv.QUOTE_NONE
    reader = csv.reader(_read_lines(path), delimiter=delimiter, quoting=quoting, skipinitialspace=is_quoted)
    while True:
        line = reader.line_num + 1
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise UserError(f"{path}, line {line}: not a valid record ({error}). Is a quote not closed?") from error
        is_blank = len(cells) <= 1 and not "".join(cells).strip()
        if is_blank or (comment is not None and cells[0].startswith(comment)):
            continue
        if num_cells is None:
            num_cells = len(cells)
        if len(cells) != num_cells:
            raise UserError(
                f"{path}, line {line}: {len(cells)} cells, but {num_cells} are expected. Correct or remove the line "
                f"(a cell that contains {delimiter!r} must be in double quotes)."
            )
        yield line, cells


def _read_lines(path: str) -> Iterator[str]:
    number = 0
    try:
        with gzip.open(path) if path.endswith(".gz") else open(path, "rb") as file:
            for number, line in enumerate(file, start=1):
                # Line by line, not by a text wrapper, because that decodes ahead and cannot tell the line of an error.
                yield line.decode("utf-8-sig" if number == 1 else "utf-8")
    except UnicodeDecodeError as error:
        byte = error.object[error.start : error.start + 1]
        raise UserError(
            f"{path}, line {number}: not UTF-8 text (byte {byte!r} at position {error.start}). Save the file as UTF-8, "
            "for example: iconv -f ISO-8859-1 -t UTF-8 OLD > NEW."
        ) from error
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise UserError(
            f"{path}: broken gzip file after line {number} ({error}). Copy or download it again."
        ) from error
    except OSError as error:
        raise UserError(
            f"{path}: cannot be read ({error.strerror or error}). Check the file and its permissions."
        ) from error
