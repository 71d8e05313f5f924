"""What TFX's ExampleGen reads: one CSV file, or gzip shards of tf.Examples."""

import contextlib
import csv
import os
from collections.abc import Sequence

from pipeline.datasets.columns import FeatureColumn, LabelColumn, Value

NUM_ROWS_PER_SHARD = 1_000_000


class CsvWriter:
    """Writes directory/data.csv: a header, missing values as empty cells. Used as a context manager."""

    def __init__(self, directory: str, columns: Sequence[FeatureColumn | LabelColumn]):
        self._file = open(os.path.join(directory, "data.csv"), "w", newline="", encoding="utf-8")  # noqa: SIM115
        self._writer = csv.writer(self._file, lineterminator="\n")
        self._writer.writerow([column.name for column in columns])

    def __enter__(self) -> "CsvWriter":
        return self

    def __exit__(self, *error: object) -> None:
        self._file.close()

    def write(self, values: Sequence[Value]) -> None:
        """Writes one row."""
        # A line break within a cell is a blank: whoever splits the file at line breaks must not break a row.
        self._writer.writerow([" ".join(v.splitlines()) if isinstance(v, str) else v for v in values])


class ExampleWriter:
    """Writes directory/data-00000.gz and so on, a million rows each. Used as a context manager.

    Categories are bytes, integers and the label int64, numeric columns float; a missing value is an absent feature.
    """

    def __init__(self, directory: str, columns: Sequence[FeatureColumn | LabelColumn]):
        import tensorflow as tf  # not at the top: a CSV is prepared without the seconds that this import takes

        self._example = tf.train.Example
        self._open = lambda path: tf.io.TFRecordWriter(path, tf.io.TFRecordOptions("GZIP", compression_level=1))
        self._directory = directory
        lists = {"categorical": "bytes_list", "numeric": "float_list"}
        self._columns = [(column.name, lists.get(column.kind, "int64_list")) for column in columns]
        self._shards = contextlib.ExitStack()
        self._num_rows = 0

    def __enter__(self) -> "ExampleWriter":
        return self

    def __exit__(self, *error: object) -> None:
        self._shards.close()

    def write(self, values: Sequence[Value]) -> None:
        """Writes one row."""
        if self._num_rows % NUM_ROWS_PER_SHARD == 0:
            self._shards.close()
            name = f"data-{self._num_rows // NUM_ROWS_PER_SHARD:05d}.gz"
            self._shard = self._shards.enter_context(self._open(os.path.join(self._directory, name)))
        self._num_rows += 1
        example = self._example()
        features = example.features.feature
        for (name, list_name), value in zip(self._columns, values, strict=True):
            if value is not None:
                item = value.encode() if isinstance(value, str) else value
                getattr(features[name], list_name).value.append(item)
        self._shard.write(example.SerializeToString())
