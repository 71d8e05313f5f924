"""The user's own tf.Examples in TFRecord files: checked, and read where they are."""

import itertools
import logging
import os

from pipeline.config import PipelineConfig
from pipeline.config_values import did_you_mean
from pipeline.datasets.inputs import reading
from pipeline.errors import UserError

NUM_RECORDS_PARSED = 1000  # of each file

_logger = logging.getLogger(__name__)


def check_records(config: PipelineConfig) -> tuple[str, str, int]:
    """Checks that the files hold tf.Examples with the configured columns.

    Returns (directory, pattern, number of records). Every record is counted; the first 1000 of each file are parsed. Files
    whose names end in .gz are read as gzip, others as plain.

    Raises:
        UserError: if a file is missing or broken, a column is missing or of another type, or files differ in one of these.
    """
    import tensorflow as tf  # not at the top: the other readers do without the seconds that this import takes

    directory, pattern, files = _find_files(config.data.path or "")
    if config.data.positive_value is not None:
        raise UserError(
            f"data.positive_value={config.data.positive_value!r}: TFRecords must hold 0 and 1. Set it to null."
        )
    first: tuple[str, dict[str, str]] | None = None
    num_records = 0
    for file in files:
        kinds: dict[str, str] = {}
        records = tf.data.TFRecordDataset(file, compression_type="GZIP" if file.endswith(".gz") else "")
        num_before = num_records
        try:
            parsed = list(itertools.islice(records.as_numpy_iterator(), NUM_RECORDS_PARSED))
            num_records += int(records.reduce(0, lambda count, _: count + 1).numpy())
        except tf.errors.DataLossError as error:
            message = f"{file}: not a TFRecord file, or a broken one ({error.message})"
            cure = "Compressed files must be gzip and end in .gz; name the right files with data.path, such as DIR/part-*.gz"
            raise UserError(f"{message}. {cure}, or copy this one again.") from error
        except tf.errors.OpError as error:
            raise UserError(f"{file}: cannot be read ({error.message}). Check the file and its permissions.") from error
        for number, record in enumerate(parsed, start=1):
            _look_at(record, f"{file}, record {number}", config.data.label, kinds)
        if num_records == num_before:
            continue
        if first is None:
            first = file, kinds
            _check_columns(config, kinds, file)
        else:
            _check_drift(config, *first, file, kinds)
    if not num_records:
        raise UserError(f"{os.path.join(directory, pattern)}: no records. Check the files.")
    return directory, pattern, num_records


def _find_files(path: str) -> tuple[str, str, list[str]]:
    import tensorflow as tf

    with reading(path):
        return _list_files(path, tf.io.gfile)


def _list_files(path: str, gfile) -> tuple[str, str, list[str]]:
    absolute = path if "://" in path else os.path.abspath(os.path.expanduser(path))
    directory, pattern = (absolute, "*") if gfile.isdir(absolute) else os.path.split(absolute)
    if not gfile.isdir(directory):
        raise UserError(
            f"{path}: no such directory. Give a directory or DIR/PATTERN, the pattern for the file names only."
        )
    files = sorted(file for file in gfile.glob(os.path.join(directory, pattern)) if not gfile.isdir(file))
    if not files:
        hint = did_you_mean(pattern, gfile.listdir(directory))
        raise UserError(f"{path}: no file matches in {directory}.{hint} Check the path (--data PATH or data.path).")
    return directory, pattern, files


def _look_at(record: bytes, place: str, label: str, kinds: dict[str, str]) -> None:
    """Notes the kind of each feature that has a value, and checks the label."""
    import tensorflow as tf
    from google.protobuf.message import DecodeError

    try:
        features = tf.train.Example.FromString(record).features.feature
    except DecodeError as error:
        raise UserError(f"{place}: not a tf.Example ({error}). Write the rows as tf.train.Example.") from error
    values = {
        name: getattr(feature, feature.WhichOneof("kind") or "bytes_list").value for name, feature in features.items()
    }
    for name, value in values.items():
        if value:
            kinds.setdefault(name, features[name].WhichOneof("kind"))
    if label in values and (len(values[label]) != 1 or values[label][0] not in (0, 1)):
        message = f"{place}, column {label!r}: the label must be one number, 0 or 1; received {list(values[label])!r}"
        raise UserError(f"{message}. Write the label as 0 or 1.")


def _check_drift(
    config: PipelineConfig, first: str, expected: dict[str, str], file: str, kinds: dict[str, str]
) -> None:
    """Compares a file with the first one: in the configured columns they must agree."""
    for column in (config.data.label, *config.features.columns):
        received, wanted = kinds.get(column, "no value"), expected[column]
        if received != wanted:
            raise UserError(
                f"{file}: column {column!r} holds {received} in its first {NUM_RECORDS_PARSED} records, but {wanted} in "
                f"{first}. Write all files in one form, or name those of one form with data.path."
            )
    appeared = sorted(kinds.keys() - expected.keys())
    if appeared:
        _logger.warning("%s has columns that %s lacks, which are not read: %s", file, first, ", ".join(appeared))


def _check_columns(config: PipelineConfig, kinds: dict[str, str], source: str) -> None:
    features = config.features
    keys = {config.data.label: "data.label"}
    for kind in ("categorical", "integer", "numeric"):
        keys |= dict.fromkeys(getattr(features, kind), f"features.{kind}")
    for column, key in keys.items():
        if column not in kinds:
            message = f"{source}: column {column!r} ({key}) has no value in the first {NUM_RECORDS_PARSED} records"
            raise UserError(f"{message}.{did_you_mean(column, kinds)} Columns there: {', '.join(sorted(kinds))}.")
        if kinds[column] == "bytes_list" and key in ("features.integer", "features.numeric"):
            message = f"{source}: column {column!r} ({key}) holds text"
            raise UserError(f"{message}. Write it as int64_list or float_list, or move it to features.categorical.")
