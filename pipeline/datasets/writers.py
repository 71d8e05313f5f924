"""What TFX's CsvExampleGen reads."""

import csv
import os
from collections.abc import Sequence

from pipeline.datasets.columns import FeatureColumn, LabelColumn, Value


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
