"""The small public sets, as the pipeline reads them (pipeline/preprocessing.py), with NumPy alone.

Every column becomes text tokens, and every token an id of the column's own vocabulary, made of the training rows: id 0 is a
missing value, the last id an unknown one or one that was too rare to be given an id.
"""

from collections import Counter

import numpy as np

from benchmarks.quality.data import Data, make_data, split_rows
from pipeline.config import load_config
from pipeline.datasets import adult, taxi
from pipeline.datasets.columns import make_columns

READERS = {"adult": adult, "taxi": taxi}
MISSING = "<missing>"
TAXI_SOURCE = (
    "--data taxi needs --taxi-csv PATH: the data.csv of TFX's example, tfx/examples/chicago_taxi_pipeline/data/simple/data.csv "
    "of github.com/tensorflow/tfx."
)


def read_tabular(name: str, path: str | None) -> Data:
    """Reads "adult" or "taxi" with the columns of pipeline/configs.

    Args:
        name: of the set.
        path: of the file; None for the one that is shipped, which adult has.

    Raises:
        ValueError: if taxi has no path.
        UserError: if the file is not what the pipeline reads.
    """
    if name == "taxi" and path is None:
        raise ValueError(TAXI_SOURCE)
    config, reader = load_config(name, data_path=path), READERS[name]
    columns = make_columns(config)
    table = reader.open_table(reader.find_files(path))
    positions = [table.columns.index(column.name) for column in columns]
    read = [column.read for column in columns]
    rows = [
        [read_cell(cells[i], file, line) for read_cell, i in zip(read, positions, strict=True)]
        for file, line, cells in table.rows
    ]
    *features, labels = zip(*rows, strict=True)
    splits = split_rows(len(rows))
    ids, sizes = [], []
    for column, values in zip(columns, features, strict=False):
        tokens = make_tokens(column.kind, values, splits["train"], config.features.num_quantiles)
        column_ids, size = make_ids(tokens, splits["train"], config.features.min_frequency)
        ids.append(column_ids)
        sizes.append(size)
    x, y = np.stack(ids, axis=1), np.array(labels)
    names = [column.name for column in columns[:-1]]
    return make_data(name, names, sizes, {split: (x[chosen], y[chosen]) for split, chosen in splits.items()})


def make_tokens(kind: str, values, train_rows: np.ndarray, num_quantiles: int) -> list[str]:
    """The token of each value; None is missing.

    Args:
        kind: "categorical" (the text itself), "integer" (floor(ln(x)^2) above 2) or "numeric" (quantile bucket).
        values: one a row.
        train_rows: the rows that quantiles are taken from.
        num_quantiles: buckets of a numeric column.
    """
    if kind == "categorical":
        return [MISSING if value is None else value for value in values]
    x = np.array([np.nan if value is None else value for value in values], np.float64)
    is_there = np.isfinite(x)
    if kind == "integer":
        safe = np.where(is_there, x, 0.0)
        buckets = np.where(safe > 2, np.floor(np.log(np.maximum(safe, 1.0)) ** 2), np.floor(safe) - 2)
    else:
        known = x[train_rows][is_there[train_rows]]
        boundaries = np.quantile(known, np.arange(1, num_quantiles) / num_quantiles)
        buckets = np.searchsorted(boundaries, x, side="right")
    return [str(int(bucket)) if there else MISSING for bucket, there in zip(buckets, is_there, strict=True)]


def make_ids(tokens: list[str], train_rows: np.ndarray, min_frequency: int) -> tuple[np.ndarray, int]:
    """The id of each token, int32, and the size of the vocabulary: the most frequent token has id 1."""
    counts = Counter(tokens[row] for row in train_rows)
    del counts[MISSING]
    frequent = sorted((-count, token) for token, count in counts.items() if count >= min_frequency)
    ids = {MISSING: 0} | {token: index for index, (_, token) in enumerate(frequent, start=1)}
    unknown = len(ids)
    return np.array([ids.get(token, unknown) for token in tokens], np.int32), unknown + 1
