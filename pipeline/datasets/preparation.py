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
from typing import Literal

import psutil

from pipeline.config import PipelineConfig
from pipeline.config_values import did_you_mean
from pipeline.datasets import adult, avazu, criteo, csv_file, taxi, tfrecord
from pipeline.datasets.columns import FeatureColumn, LabelColumn, make_columns
from pipeline.datasets.files import Table
from pipeline.datasets.root import remove_empty, writable_root
from pipeline.datasets.writers import CsvWriter, ExampleWriter
from pipeline.errors import UserError

LAYOUT_VERSION = 1  # of what is written; raise it when the same source would give other files
READERS: dict[str, ModuleType] = {"adult": adult, "taxi": taxi, "criteo": criteo, "avazu": avazu, "csv": csv_file}
LARGE = ("criteo", "avazu")  # tf.Examples cost ExampleGen a quarter of the CPU that a CSV costs

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
    """

    format: Literal["csv", "tfrecord"]
    directory: str
    label: str
    num_rows: int
    pattern: str = "*"


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
    reader = READERS[data.reader]
    files = reader.find_files(data.path)
    target = Path(os.path.abspath(root), "data", _fingerprint(config, files))
    with writable_root(root):
        known = _read_num_rows(target)
        num_rows = _write(config, reader, files, target) if known is None else known
    return PreparedData("tfrecord" if data.reader in LARGE else "csv", str(target), data.label, num_rows)


def _fingerprint(config: PipelineConfig, files: list[str]) -> str:
    """A hash of all that decides what is written: how values become ids later on (min_frequency, ...) is not of it."""
    stats = [(file, os.stat(file).st_size, os.stat(file).st_mtime_ns) for file in files]
    columns = [(column.name, column.kind) for column in make_columns(config)]
    settings = (LAYOUT_VERSION, config.data.reader, config.data.positive_value)
    return hashlib.sha256(json.dumps([settings, stats, columns]).encode()).hexdigest()[:16]


def _write(config: PipelineConfig, reader: ModuleType, files: list[str], target: Path) -> int:
    """Writes to a hidden sibling of `target`, which gets its name when all is well; returns the number of rows."""
    has_data_folder = target.parent.is_dir()
    target.parent.mkdir(exist_ok=True)
    _remove_abandoned(target)
    partial = target.parent / f".{target.name}.{os.getpid()}"
    try:
        partial.mkdir()
        writer = ExampleWriter if config.data.reader in LARGE else CsvWriter
        columns = make_columns(config)
        with writer(str(partial), columns) as sink:
            num_rows = _copy_rows(reader.open_table(files), columns, sink, files)
        # Beside the directory: ExampleGen would read every file within it.
        description = {"num_rows": num_rows, "schema_version": LAYOUT_VERSION, "sources": files}
        written = Path(f"{partial}.json")
        written.write_text(json.dumps(description, sort_keys=True), "utf-8")
        os.replace(written, target.with_suffix(".json"))
        shutil.rmtree(target, ignore_errors=True)
        os.replace(partial, target)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        Path(f"{partial}.json").unlink(missing_ok=True)
        remove_empty([] if has_data_folder else [str(target.parent)])
        raise
    _logger.info("Prepared %d rows of %s in %s", num_rows, ", ".join(files), target)
    return num_rows


def _copy_rows(
    table: Table, columns: list[FeatureColumn | LabelColumn], sink: CsvWriter | ExampleWriter, files: list[str]
) -> int:
    source = ", ".join(files)
    for column in columns:
        if column.name not in table.columns:
            raise UserError(_describe_missing(column, table.columns, source))
    readers = [(table.columns.index(column.name), column.read) for column in columns]
    num_rows = 0
    for path, line, cells in table.rows:
        sink.write([read(cells[index], path, line) for index, read in readers])
        num_rows += 1
    if not num_rows:
        raise UserError(f"{source}: no rows. Check the file.")
    for column in reversed(columns):  # the label first: without it nothing else matters
        column.check(source)
    return num_rows


def _describe_missing(column: FeatureColumn | LabelColumn, known: tuple[str, ...], source: str) -> str:
    key = "data.label" if column.kind == "label" else f"features.{column.kind}"
    hint = did_you_mean(column.name, known)
    message = f"{source}: column {column.name!r} ({key}) is missing.{hint} Columns in the data: {', '.join(known)}."
    if len(known) == 1 and any(separator in known[0] for separator in ";\t|"):
        return f"{message} The cells seem to be separated by another sign; a CSV file with commas is needed."
    return f"{message} Correct {key}."


def _read_num_rows(target: Path) -> int | None:
    """The number of rows of a finished preparation; None if there is none."""
    if not target.is_dir():
        return None
    with contextlib.suppress(OSError, ValueError, KeyError):
        return int(json.loads(target.with_suffix(".json").read_text("utf-8"))["num_rows"])
    return None


def _remove_abandoned(target: Path) -> None:
    """Removes what processes that were killed left of this preparation."""
    for path in target.parent.glob(f".{target.name}.*"):
        pid = int(path.name.split(".")[2])
        if pid == os.getpid() or not psutil.pid_exists(pid):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
