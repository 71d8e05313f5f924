"""Large files of one row a line become shuffled shards of tf.Examples: streamed, in parallel, in bounded memory."""

import collections
import concurrent.futures
import contextlib
import dataclasses
import itertools
import multiprocessing
import os
import shutil
import signal
from collections.abc import Iterator, Sequence

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.config_values import did_you_mean
from pipeline.datasets.bad_rows import BadRows
from pipeline.datasets.columns import FeatureColumn, LabelColumn
from pipeline.datasets.files import decode_line
from pipeline.datasets.inputs import Block, estimate_bytes, read_blocks
from pipeline.datasets.line_format import LineFormat
from pipeline.datasets.line_parser import Column, LineParser, ParsedBlock
from pipeline.datasets.shards import append_to_piles, count_piles, deal, write_shard
from pipeline.errors import UserError

BLOCK_BYTES = 8 * 2**20
BYTES_PER_PILE = 64 * 2**10  # of a block, at least: each pile's share has an overhead of some KB
MAX_PARSERS = 4  # threads: one of them takes 5 us a row, so that writing is what takes longer


@dataclasses.dataclass(frozen=True)
class _Dealt:
    """What is known of a block whose rows lie dealt: per feature (missing, first value, whether there is no other)."""

    num_rows: int
    seen: list[tuple[int, str | int | float | None, bool]]
    labels: list[str]
    bad_rows: BadRows
    buffers: list[pa.Buffer]


def write_examples(
    files: Sequence[str], line_format: LineFormat, columns: Sequence[Column], directory: str, bad_rows: BadRows
) -> int:
    """Writes directory/data-00000.gz and so on; returns the number of rows.

    Args:
        files: what to read, one after the other; see `inputs.open_input`.
        line_format: what their lines look like.
        columns: the configured columns, which take in what was seen.
        directory: where to write; `directory`.piles, which is removed, holds the rows in the meantime.
        bad_rows: what to do with bad rows, and their count.

    Raises:
        UserError: if a file cannot be read, a column is missing in one, or a row is bad (see `bad_rows`).
    """
    num_bytes = estimate_bytes(list(files))
    num_piles = count_piles(num_bytes)
    piles = f"{directory}.piles"
    os.mkdir(piles)
    try:
        num_rows = _deal_all(files, line_format, columns, piles, num_piles, bad_rows)
        if num_rows:
            shards = [index for index in range(num_piles) if os.path.exists(os.path.join(piles, f"{index:05d}.arrows"))]
            _write_shards(piles, directory, shards)
    finally:
        shutil.rmtree(piles, ignore_errors=True)
    return num_rows


def num_workers() -> int:
    """Processes that write, and at most so many threads that parse: one a core."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _deal_all(
    files: Sequence[str],
    line_format: LineFormat,
    columns: Sequence[Column],
    piles: str,
    num_piles: int,
    bad_rows: BadRows,
) -> int:
    num_rows = 0
    num_bytes = max(BLOCK_BYTES, num_piles * BYTES_PER_PILE)
    with contextlib.ExitStack() as stack:
        num_threads = min(num_workers(), MAX_PARSERS)
        threads = stack.enter_context(concurrent.futures.ThreadPoolExecutor(num_threads))
        stack.callback(threads.shutdown, cancel_futures=True)
        waiting: collections.deque[concurrent.futures.Future[_Dealt]] = collections.deque()

        def take_in() -> int:
            dealt = waiting.popleft().result()
            features = [column for column in columns if isinstance(column, FeatureColumn)]
            for column, seen in zip(features, dealt.seen, strict=True):
                column.add(*seen)
            for label in (column for column in columns if isinstance(column, LabelColumn)):
                for text in dealt.labels:
                    label.read(text, files[0], 0)
            bad_rows.add(dealt.bad_rows)
            append_to_piles(piles, dealt.buffers)
            return dealt.num_rows

        # In the order of the files, whichever thread is done first.
        for index, (parser, block) in enumerate(_read_files(files, line_format, columns, num_bytes, bad_rows.policy)):
            waiting.append(threads.submit(_parse_and_deal, parser, block, num_piles, index))
            if len(waiting) > num_threads:
                num_rows += take_in()
        while waiting:
            num_rows += take_in()
    return num_rows


def _read_files(
    files: Sequence[str], line_format: LineFormat, columns: Sequence[Column], num_bytes: int, policy: str
) -> Iterator[tuple[LineParser, Block]]:
    first_names: tuple[str, ...] | None = None
    for path in files:
        names = line_format.columns or _read_header(path, line_format, num_bytes)
        if first_names is None:
            first_names = names
        require_columns(columns, _known(names, line_format), path, files[0], _known(first_names, line_format))
        parser = LineParser(line_format, names, columns, policy)
        for block in read_blocks(path, num_bytes, first_line=1 if line_format.columns else 2):
            yield parser, block


def _read_header(path: str, line_format: LineFormat, num_bytes: int) -> tuple[str, ...]:
    block = next(read_blocks(path, num_bytes), None)
    if block is None:
        raise UserError(f"{path}: is empty; a header with the columns' names and rows are expected. Check the file.")
    line = decode_line(block.data.split(b"\n", 1)[0], path, 1)
    names = tuple(name.strip().strip('"') for name in line.split(line_format.delimiter))
    for name in names:
        if names.count(name) > 1:
            raise UserError(f"{path}, line 1: column {name!r} occurs twice in the header. Rename one of the two.")
    for name in line_format.required:
        if name not in names:
            raise UserError(
                f"{path}: column {name!r} is missing; {line_format.origin} is expected. Columns in the file: "
                f"{', '.join(names)}. For any other CSV use reader 'csv': python -m pipeline init --help."
            )
    return names


def _known(names: Sequence[str], line_format: LineFormat) -> tuple[str, ...]:
    """The columns that a configuration may name."""
    return (*(name for name in names if name not in line_format.hidden), *line_format.derived)


def require_columns(
    columns: Sequence[Column],
    known: Sequence[str],
    path: str,
    first_path: str | None = None,
    first_known: Sequence[str] = (),
) -> None:
    """Raises UserError if a configured column is not among those of a file; a later file is compared with the first."""
    for column in columns:
        if column.name in known:
            continue
        key = "data.label" if column.kind == "label" else f"features.{column.kind}"
        hint = did_you_mean(column.name, known)
        message = f"{path}: column {column.name!r} ({key}) is missing.{hint} Columns in the data: {', '.join(known)}."
        if column.name in first_known:
            raise UserError(f"{message} {first_path} has it. Bring the files to one form, or leave this one out.")
        if len(known) == 1 and any(separator in known[0] for separator in ";\t|"):
            message += " The cells seem to be separated by another sign; a CSV file with commas is needed."
            raise UserError(message)
        raise UserError(f"{message} Correct {key}.")


def _parse_and_deal(parser: LineParser, block: Block, num_piles: int, index: int) -> _Dealt:
    parsed: ParsedBlock = parser.parse(block)
    table = parsed.table
    seen = [_look_at(column) for column in table.columns[:-1]]
    buffers = deal(table, num_piles, index) if table.num_rows else []
    return _Dealt(table.num_rows, seen, parsed.labels, parsed.bad_rows, buffers)


def _look_at(column: pa.ChunkedArray) -> tuple[int, str | int | float | None, bool]:
    values = column.drop_null()
    if not len(values):
        return column.null_count, None, True
    first = values[0]
    return column.null_count, first.as_py(), bool(pc.all(pc.equal(values, first)).as_py())


def _write_shards(piles: str, directory: str, indices: Sequence[int]) -> None:
    workers = min(num_workers(), len(indices))
    if workers == 1:
        for index in indices:
            write_shard(piles, directory, index)
        return
    # Processes, because the encoder holds Python's lock; spawned, because a forked TensorFlow hangs.
    context = multiprocessing.get_context("spawn")
    pool = concurrent.futures.ProcessPoolExecutor(workers, context, _ignore_interrupts)
    try:
        arguments = (itertools.repeat(piles), itertools.repeat(directory), indices)
        collections.deque(pool.map(write_shard, *arguments), maxlen=0)
    except concurrent.futures.process.BrokenProcessPool as error:
        raise UserError(
            f"{directory}: a process that wrote shards was killed, perhaps for its memory. Free about 300 MB for each of "
            f"{workers} processes, or allow fewer of them: taskset -c 0 python -m pipeline ..."
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


def _ignore_interrupts() -> None:
    """Ctrl-C is the parent's to handle."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
