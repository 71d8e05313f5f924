"""Blocks of lines become typed columns, at the speed of pyarrow; a block with a bad line is halved until that is found.

What is good and what is bad is defined line by line, by `FeatureColumn.read` and `LabelColumn`. The fast way takes a block
only if it can vouch for every cell of it.
"""

import csv
import dataclasses
from collections.abc import Sequence
from typing import Literal

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pcsv

from pipeline.datasets.bad_rows import BadRows
from pipeline.datasets.columns import MAX_FLOAT32, FeatureColumn, LabelColumn, Value
from pipeline.datasets.files import decode_line, describe_count
from pipeline.datasets.inputs import Block
from pipeline.datasets.line_format import Derived, LineFormat
from pipeline.errors import UserError

MAX_SLOW_LINES = 256
TYPES = {"categorical": pa.string(), "integer": pa.int64(), "numeric": pa.float64(), "label": pa.int64()}

Column = FeatureColumn | LabelColumn


class _UncleanError(Exception):
    """The fast way cannot vouch for all lines."""


@dataclasses.dataclass(frozen=True)
class ParsedBlock:
    """The good rows of a block, and what became of the others.

    Attributes:
        table: one column a configured one: text, int64, float64; null where a value is missing; the label int64.
        labels: the label's raw values, in the order they came.
        bad_rows: the rows that were left out.
    """

    table: pa.Table
    labels: list[str]
    bad_rows: BadRows


class LineParser:
    """Parses blocks of a format; it has no state, so that threads may share it.

    Args:
        line_format: what a line looks like.
        names: the names of its cells.
        columns: the configured columns; their `kind`s and the label's positive value are used.
        policy: `data.on_bad_rows`.
    """

    def __init__(self, line_format: LineFormat, names: Sequence[str], columns: Sequence[Column], policy: str):
        self._format, self._names, self._columns, self._policy = line_format, list(names), list(columns), policy
        self._label = next(column for column in columns if isinstance(column, LabelColumn))
        self._schema = pa.schema([(column.name, TYPES[column.kind]) for column in columns])
        used = {column.name for column in columns}
        # A derived column's source is checked even where it is no feature itself.
        self._checked = {
            name: derived
            for name, derived in line_format.derived.items()
            if name not in self._names and used & {name, derived.source}
        }
        sources = {derived.source for derived in self._checked.values()}
        kinds = {column.name: column.kind for column in columns}
        self._types = {
            name: pa.string() if kinds.get(name) in (None, "label", "categorical") else TYPES[kinds[name]]
            for name in self._names
            if name in used | sources
        }

    def parse(self, block: Block) -> ParsedBlock:
        """Raises UserError for the first bad row, unless such rows are skipped."""
        bad_rows = BadRows(self._policy)
        tables: list[pa.Table] = []
        labels: dict[str, None] = {}
        self._parse(block, tables, labels, bad_rows)
        return ParsedBlock(pa.concat_tables(tables), list(labels), bad_rows)

    def _parse(self, block: Block, tables: list[pa.Table], labels: dict[str, None], bad_rows: BadRows) -> None:
        try:
            table, seen = self._parse_fast(block)
        except (pa.ArrowInvalid, _UncleanError):
            num_lines = block.data.count(b"\n")
            if num_lines <= MAX_SLOW_LINES:
                table, seen = self._parse_slowly(block, bad_rows)
            else:
                middle = block.data.rfind(b"\n", 0, len(block.data) // 2) + 1 or block.data.index(b"\n") + 1
                first, second = block.data[:middle], block.data[middle:]
                self._parse(Block(block.path, block.first_line, first), tables, labels, bad_rows)
                line = block.first_line + first.count(b"\n")
                self._parse(Block(block.path, line, second), tables, labels, bad_rows)
                return
        tables.append(table)
        labels |= dict.fromkeys(seen)

    def _parse_fast(self, block: Block) -> tuple[pa.Table, list[str]]:
        data, line_format = block.data, self._format
        # Where pyarrow reads more than we do: hexadecimal integers, quotes after a blank.
        if b"0x" in data or b"0X" in data or (line_format.is_quoted and b' "' in data):
            raise _UncleanError
        table = pcsv.read_csv(
            pa.py_buffer(data),
            pcsv.ReadOptions(column_names=self._names, use_threads=False),
            pcsv.ParseOptions(
                delimiter=line_format.delimiter, quote_char='"' if line_format.is_quoted else False, double_quote=True
            ),
            pcsv.ConvertOptions(
                column_types=self._types,
                include_columns=list(self._types),
                null_values=[""],
                strings_can_be_null=True,
                quoted_strings_can_be_null=True,
            ),
        )
        has_blanks = b" " in data or not data.isascii()
        cells = {
            name: _strip(table[name]) if has_blanks and pa.types.is_string(kind) else table[name]
            for name, kind in self._types.items()
        }
        cells[self._label.name], labels = self._read_labels(cells[self._label.name], block.path)
        for name, derived in self._checked.items():
            cells[name] = _cut(cells[derived.source], derived)
        for column in self._columns:
            if column.kind == "numeric":
                _check_numbers(cells[column.name])
        return pa.table([cells[column.name] for column in self._columns], schema=self._schema), labels

    def _read_labels(self, texts: pa.ChunkedArray, path: str) -> tuple[pa.Array, list[str]]:
        if texts.null_count:
            raise _UncleanError
        coded = texts.combine_chunks().dictionary_encode()
        labels = coded.dictionary.to_pylist()
        binaries = [self._label.to_binary(text) for text in labels]
        if None in binaries:
            if self._policy == "fail":
                self._fail_by_labels(labels, path)
            raise _UncleanError
        return pa.array(binaries, pa.int64()).take(coded.indices), labels

    def _fail_by_labels(self, labels: list[str], path: str) -> None:
        """All values that were seen tell more about a wrong label than the first of them."""
        label = LabelColumn(self._label.name, self._label.positive_value)
        for text in labels:
            label.read(text, path, 0)
        label.check(path)

    def _parse_slowly(self, block: Block, bad_rows: BadRows) -> tuple[pa.Table, list[str]]:
        rows: list[list[Value]] = []
        labels: list[str] = []
        for number, line in enumerate(block.data.split(b"\n"), start=block.first_line):
            if not line.strip():
                continue
            try:
                values, label = self._read_line(line, block.path, number)
            except UserError as error:
                bad_rows.reject(str(error))
                continue
            rows.append(values)
            labels.append(label)
        columns = zip(*rows, strict=True) if rows else [()] * len(self._columns)
        arrays = [pa.array(column, field.type) for column, field in zip(columns, self._schema, strict=True)]
        return pa.table(arrays, schema=self._schema), labels

    def _read_line(self, line: bytes, path: str, number: int) -> tuple[list[Value], str]:
        """One row's values and its raw label; UserError if anything is wrong with it."""
        text, line_format = decode_line(line, path, number), self._format
        quoting: Literal[0, 3] = csv.QUOTE_MINIMAL if line_format.is_quoted else csv.QUOTE_NONE
        try:
            reader = csv.reader(
                [text.rstrip("\r")],
                delimiter=line_format.delimiter,
                quoting=quoting,
                skipinitialspace=line_format.is_quoted,
            )
            found = next(reader)
        except csv.Error as error:
            raise UserError(f"{path}, line {number}: not a valid record ({error}). Correct the line.") from error
        if len(found) != len(self._names):
            raise UserError(describe_count(path, number, len(found), len(self._names), line_format.delimiter))
        cells = dict(zip(self._names, found, strict=True))
        for name, derived in self._checked.items():
            source = cells[derived.source].strip()
            value = derived.cut(source) if source else ""
            if value is None:
                message = f"{path}, line {number}, column {derived.source!r}: {source!r} does not have the form"
                raise UserError(f"{message} {derived.form}. Correct the line.")
            cells[name] = value
        values = [
            self._label.read_alone(cells[column.name], path, number)
            if isinstance(column, LabelColumn)
            else FeatureColumn(column.name, column.kind).read(cells[column.name], path, number)
            for column in self._columns
        ]
        return values, cells[self._label.name].strip()


def _strip(texts: pa.ChunkedArray) -> pa.ChunkedArray:
    stripped = pc.utf8_trim_whitespace(texts)
    return pc.if_else(pc.equal(stripped, ""), pa.scalar(None, pa.string()), stripped)


def _cut(texts: pa.ChunkedArray, derived: Derived) -> pa.ChunkedArray:
    if not pc.all(pc.match_substring_regex(texts, f"^({derived.pattern})$")).as_py() and texts.null_count < len(texts):
        raise _UncleanError
    return pc.utf8_slice_codeunits(texts, derived.begin, derived.end)


def _check_numbers(numbers: pa.ChunkedArray) -> None:
    # NaN compares as false, and so do all that are missing, which `all` leaves out.
    if pc.all(pc.less_equal(pc.abs(numbers), MAX_FLOAT32)).as_py() is False:
        raise _UncleanError
