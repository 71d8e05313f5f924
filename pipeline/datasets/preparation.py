"""`prepare`: the user's data, read once, checked, and written where TFX's ExampleGen finds it."""

import contextlib
import dataclasses
import hashlib
import json
import logging
import os
import shutil
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

import psutil

from pipeline.config import PipelineConfig
from pipeline.datasets import adult, avazu, criteo, csv_file, taxi, tfrecord
from pipeline.datasets.bad_rows import BadRows
from pipeline.datasets.columns import LabelColumn, make_columns
from pipeline.datasets.files import Table
from pipeline.datasets.inputs import describe_input, find_inputs
from pipeline.datasets.large_files import require_columns, write_examples
from pipeline.datasets.line_format import LineFormat
from pipeline.datasets.line_parser import Column
from pipeline.datasets.root import remove_empty, writable_root
from pipeline.datasets.writers import CsvWriter
from pipeline.errors import UserError

LAYOUT_VERSION = 2  # of what is written; raise it when the same source would give other files
READERS: dict[str, ModuleType] = {"adult": adult, "taxi": taxi, "csv": csv_file}
LARGE: dict[str, LineFormat] = {"criteo": criteo.FORMAT, "avazu": avazu.FORMAT}  # written as tf.Examples

_logger = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class PreparedData:
    """Data that TFX's ExampleGen can read.

    Attributes:
        format: 'csv' (CsvExampleGen) or 'tfrecord' (ImportExampleGen).
        directory: where the files are: the ExampleGen's input_base.
        label: the label's column, 0 or 1.
        num_rows: rows in all files.
        pattern: the files within the directory.
        num_skipped_rows: rows that were left out, as `data.on_bad_rows` allows.
        skipped: what was wrong with the first five of them.
    """

    format: Literal["csv", "tfrecord"]
    directory: str
    label: str
    num_rows: int
    pattern: str = "*"
    num_skipped_rows: int = 0
    skipped: tuple[str, ...] = ()


def prepare(config: PipelineConfig, root: str) -> PreparedData:
    """Reads, checks and normalises the configured data into <root>/data/<fingerprint>/.

    A source that was prepared before and did not change since (size and time of change) is left as it is, because TFX's
    cache looks at the files' times. The user's own TFRecords are checked and read where they are. On any error, Ctrl-C
    included, nothing is left behind, not even `root` if it did not exist.

    Args:
        config: what to read; the columns named in `features` and the label are kept.
        root: the pipeline's local directory.

    Raises:
        UserError: if the data or the root cannot be used; it names file, line or column, value and cure.
    """
    data = config.data
    if data.reader == "tfrecord":
        with writable_root(root):
            directory, pattern, num_rows = tfrecord.check_records(config)
        return PreparedData("tfrecord", directory, data.label, num_rows, pattern)
    files = find_inputs(data.path) if data.reader in LARGE else READERS[data.reader].find_files(data.path)
    target = Path(os.path.abspath(root), "data", _fingerprint(config, files))
    with writable_root(root):
        note = _read_note(target) or _write(config, files, target)
    return PreparedData(
        "tfrecord" if data.reader in LARGE else "csv",
        str(target),
        data.label,
        note["num_rows"],
        num_skipped_rows=note["num_skipped_rows"],
        skipped=tuple(note["skipped"]),
    )


def _fingerprint(config: PipelineConfig, files: list[str]) -> str:
    """A hash of all that decides what is written: how values become ids later on (min_frequency, ...) is not of it."""
    stats = [describe_input(file) for file in files]
    columns = [(column.name, column.kind) for column in make_columns(config)]
    settings = (LAYOUT_VERSION, config.data.reader, config.data.positive_value, config.data.on_bad_rows)
    return hashlib.sha256(json.dumps([settings, stats, columns]).encode()).hexdigest()[:16]


def _write(config: PipelineConfig, files: list[str], target: Path) -> dict[str, Any]:
    """Writes to a hidden sibling of `target`, which gets its name when all is well; returns the note beside it."""
    has_data_folder = target.parent.is_dir()
    target.parent.mkdir(exist_ok=True)
    _remove_abandoned(target)
    partial = target.parent / f".{target.name}.{os.getpid()}"
    columns, bad_rows = make_columns(config), BadRows(config.data.on_bad_rows)
    try:
        partial.mkdir()
        if config.data.reader in LARGE:
            num_rows = write_examples(files, LARGE[config.data.reader], columns, str(partial), bad_rows)
        else:
            table = READERS[config.data.reader].open_table(files, bad_rows)
            with CsvWriter(str(partial), columns) as sink:
                num_rows = _copy_rows(table, columns, sink, files, bad_rows)
        _check(columns, ", ".join(files), num_rows, bad_rows)
        note = {
            "num_rows": num_rows,
            "num_skipped_rows": bad_rows.count,
            "schema_version": LAYOUT_VERSION,
            "skipped": bad_rows.messages,
            "sources": files,
        }
        # Beside the directory: ExampleGen would read every file within it.
        written = Path(f"{partial}.json")
        written.write_text(json.dumps(note, sort_keys=True), "utf-8")
        os.replace(written, target.with_suffix(".json"))
        shutil.rmtree(target, ignore_errors=True)
        os.replace(partial, target)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        Path(f"{partial}.json").unlink(missing_ok=True)
        remove_empty([] if has_data_folder else [str(target.parent)])
        raise
    _logger.info("Prepared %d rows of %s in %s", num_rows, ", ".join(files), target)
    if bad_rows.count:
        _logger.warning("Skipped %d bad rows, such as: %s", bad_rows.count, " ".join(bad_rows.messages))
    return note


def _copy_rows(table: Table, columns: list[Column], sink: CsvWriter, files: list[str], bad_rows: BadRows) -> int:
    require_columns(columns, table.columns, ", ".join(files))
    skips = bad_rows.policy == "skip"
    readers = [
        (
            table.columns.index(column.name),
            column.read_alone if skips and isinstance(column, LabelColumn) else column.read,
        )
        for column in columns
    ]
    num_rows = 0
    for path, line, cells in table.rows:
        try:
            values = [read(cells[index], path, line) for index, read in readers]
        except UserError as error:
            if not skips:
                raise
            bad_rows.reject(str(error))
            continue
        if skips:
            columns[-1].read(cells[readers[-1][0]], path, line)
        sink.write(values)
        num_rows += 1
    return num_rows


def _check(columns: list[Column], source: str, num_rows: int, bad_rows: BadRows) -> None:
    bad_rows.check(source, num_rows)
    if not num_rows:
        raise UserError(f"{source}: no rows. Check the file.")
    for column in reversed(columns):  # the label first: without it nothing else matters
        column.check(source)


def _read_note(target: Path) -> dict[str, Any] | None:
    """What is known of a finished preparation; None if there is none."""
    if not target.is_dir():
        return None
    with contextlib.suppress(OSError, ValueError, KeyError):
        note = json.loads(target.with_suffix(".json").read_text("utf-8"))
        return note | {"num_rows": int(note["num_rows"])}
    return None


def _remove_abandoned(target: Path) -> None:
    """Removes what processes that were killed left of this preparation."""
    for path in target.parent.glob(f".{target.name}.*"):
        pid = int(path.name.split(".")[2])
        if pid == os.getpid() or not psutil.pid_exists(pid):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
