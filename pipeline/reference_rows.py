"""Raw rows of the prepared data as serialized tf.Examples, to check an exported model by."""

import contextlib
import csv
import gzip
import itertools
import os

import tensorflow as tf

from serving.export_columns import FeatureSpec


def read_reference_rows(
    directory: str, data_format: str, pattern: str, spec: FeatureSpec, num_rows: int
) -> list[bytes]:
    """The first rows of the data, of which split ever: programs are compared on them, no quality is measured.

    Args:
        directory: directory of the prepared data; may be remote.
        data_format: "csv" or "tfrecord".
        pattern: its files.
        spec: the columns to keep, and their types; empty text, and text that is no number where one is due, is missing.
        num_rows: at most so many.

    Returns:
        Serialized tf.Examples; none if no file matches.
    """
    rows: list[bytes] = []
    for path in sorted(tf.io.gfile.glob(os.path.join(directory, pattern))):
        read = _read_csv if data_format == "csv" else _read_records
        rows += read(path, spec, num_rows - len(rows))
        if len(rows) == num_rows:
            break
    return rows


def _read_csv(path: str, spec: FeatureSpec, num_rows: int) -> list[bytes]:
    with tf.io.gfile.GFile(path, "rb") as file, contextlib.ExitStack() as stack:
        stream = stack.enter_context(gzip.open(file)) if path.endswith(".gz") else file
        lines = (line.decode() for line in stream)
        cells = itertools.islice(csv.DictReader(lines), num_rows)
        return [_make_example(row, spec) for row in cells]


def _make_example(row: dict[str, str], spec: FeatureSpec) -> bytes:
    example = tf.train.Example()
    for name, feature in spec.items():
        text = row.get(name)
        if not text:
            continue
        # A value of another type than the schema's is one that the pipeline would not take either.
        with contextlib.suppress(ValueError):
            if feature.dtype == tf.string:
                example.features.feature[name].bytes_list.value.append(text.encode())
            elif feature.dtype == tf.int64:
                example.features.feature[name].int64_list.value.append(int(text))
            else:
                example.features.feature[name].float_list.value.append(float(text))
    return example.SerializeToString(deterministic=True)


def _read_records(path: str, spec: FeatureSpec, num_rows: int) -> list[bytes]:
    records = tf.data.TFRecordDataset(path, compression_type="GZIP" if path.endswith("gz") else "")
    return [_keep_columns(record, spec) for record in records.take(num_rows).as_numpy_iterator()]


def _keep_columns(record: bytes, spec: FeatureSpec) -> bytes:
    example, kept = tf.train.Example.FromString(record), tf.train.Example()
    for name, feature in example.features.feature.items():
        if name in spec and feature.WhichOneof("kind"):
            kept.features.feature[name].CopyFrom(feature)
    return kept.SerializeToString(deterministic=True)
