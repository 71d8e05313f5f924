"""The rows of a comparison: checked arrays, split four ways, in batches."""

import dataclasses
import hashlib
from collections.abc import Mapping, Sequence

import numpy as np
import tensorflow as tf

import keras_dimgrow as kd

GIVEN_SPLITS = ("train", "validation", "test")
# The validation rows are halved: "search" is what a search judges dimensions by, "stop" what ends a training early.
SPLITS = ("train", "search", "stop", "test")
HALVES_SEED = 0
EVALUATION_BATCH_SIZE = 8192
MAX_SHOWN = 5

Arrays = tuple[np.ndarray, np.ndarray]


@dataclasses.dataclass(frozen=True)
class Truth:
    """What is known about the fields of planted data.

    Attributes:
        ranks: field -> dimensions that it needs: the oracle plan.
        useless: the fields that say nothing about the label.
        duplicates: field -> the field whose values it repeats, and in whose place it may be kept.
    """

    ranks: Mapping[str, int]
    useless: frozenset[str]
    duplicates: Mapping[str, str]


@dataclasses.dataclass(frozen=True, eq=False)
class Data:
    """Rows of ids and labels.

    Attributes:
        name: what the results call the data.
        fields: the fields, in the order of the columns of ids.
        ids: split -> int32 [N, F].
        labels: split -> float32 [N], 0 or 1.
        fingerprint: hash of everything above.
        truth: about the fields, where it is known (planted data); else None.
    """

    name: str
    fields: tuple[kd.Field, ...]
    ids: Mapping[str, tf.Tensor]
    labels: Mapping[str, tf.Tensor]
    fingerprint: str
    truth: Truth | None = None

    @property
    def num_table_rows(self) -> int:
        """Rows of all tables, sum_i V_i."""
        return sum(field.vocabulary_size for field in self.fields)

    def num_rows(self, split: str) -> int:
        """Rows of one split."""
        return int(self.ids[split].shape[0])

    def train_batches(self, batch_size: int, seed: int) -> tf.data.Dataset:
        """Batches of ({field: int32 [B]}, label [B]), in a new order each pass, without the short last one.

        Raises:
            ValueError: if there are fewer rows than one batch has.
        """
        num_rows = self.num_rows("train")
        num_batches = num_rows // batch_size
        if not num_batches:
            raise ValueError(
                f"{self.name}: a batch has {batch_size} rows; received {num_rows} to train with. Lower --batch-size."
            )

        def order(pass_seed):
            rows = tf.random.experimental.stateless_shuffle(tf.range(num_rows), [seed, pass_seed])
            return tf.data.Dataset.from_tensor_slices(tf.reshape(rows[: num_batches * batch_size], [-1, batch_size]))

        passes = tf.data.Dataset.random(seed=seed, rerandomize_each_iteration=True).take(1)
        rows = passes.map(lambda value: value // 2).flat_map(order)
        return self._gather("train", rows.apply(tf.data.experimental.assert_cardinality(num_batches)))

    def batches(self, split: str) -> tf.data.Dataset:
        """Batches of all rows of a split, in order."""
        return self._gather(split, tf.data.Dataset.range(self.num_rows(split)).batch(EVALUATION_BATCH_SIZE))

    def _gather(self, split: str, rows: tf.data.Dataset) -> tf.data.Dataset:
        """Whole batches by one gather each: a dataset of single rows would be slower by far."""
        ids, labels = self.ids[split], self.labels[split]
        names = [field.name for field in self.fields]

        def gather(batch):
            columns = tf.unstack(tf.gather(ids, batch), num=len(names), axis=1)
            return dict(zip(names, columns, strict=True)), tf.gather(labels, batch)

        return rows.map(gather).prefetch(4)


def make_data(
    name: str,
    field_names: Sequence[str],
    vocabulary_sizes: Sequence[int],
    arrays: dict[str, Arrays],
    truth: Truth | None = None,
) -> Data:
    """Checks the arrays and splits them.

    Args:
        name: what the results call the data; errors, too.
        field_names, vocabulary_sizes: one of each for every column of ids.
        arrays: "train", "validation" and "test" -> ids [N, F] and labels [N]. Emptied on the way: large data is not held
            twice.
        truth: see `Data`.

    Raises:
        ValueError: if shapes do not fit together, an id lies outside its vocabulary, a label is neither 0 nor 1, or a split
            lacks one of the two.
    """
    if len(field_names) != len(vocabulary_sizes):
        raise ValueError(
            f"{name}: every field has a name and a vocabulary size; received {len(field_names)} field_names and "
            f"{len(vocabulary_sizes)} vocabulary_sizes."
        )
    fields = tuple(
        kd.Field(name=str(field), vocabulary_size=int(size))
        for field, size in zip(field_names, vocabulary_sizes, strict=True)
    )
    kd.EmbeddingPlan.uniform(fields, 1)  # rejects names that occur twice
    digest = hashlib.blake2b(digest_size=16)
    digest.update(repr([(field.name, field.vocabulary_size) for field in fields] + [HALVES_SEED]).encode())
    ids, labels = {}, {}
    with tf.device("CPU"):  # a GPU's memory is for the model
        for given in GIVEN_SPLITS:
            x, y = arrays.pop(given)
            x, y = _check(f"{name}, {given}", x, y, fields)
            digest.update(memoryview(x).cast("B"))
            digest.update(memoryview(y).cast("B"))
            parts: dict[str, slice | np.ndarray] = {given: slice(None)}
            if given == "validation":
                parts = dict(zip(("search", "stop"), halves(len(x)), strict=True))
            for split, rows in parts.items():
                ids[split], labels[split] = tf.constant(x[rows]), tf.constant(y[rows])
    return Data(name, fields, ids, labels, digest.hexdigest(), truth)


def halves(num_rows: int) -> tuple[np.ndarray, np.ndarray]:
    """Two halves of the rows 0 .. num_rows - 1, drawn by lot but always alike."""
    order = np.random.default_rng(HALVES_SEED).permutation(num_rows)
    return np.sort(order[: num_rows // 2]), np.sort(order[num_rows // 2 :])


def split_rows(num_rows: int) -> dict[str, np.ndarray]:
    """70% of the rows to train, 15% to validate and 15% to test, by lot but always alike."""
    order = np.random.default_rng(HALVES_SEED).permutation(num_rows)
    first, second = num_rows * 70 // 100, num_rows * 85 // 100
    return dict(zip(GIVEN_SPLITS, (order[:first], order[first:second], order[second:]), strict=True))


def _check(place: str, x: np.ndarray, y: np.ndarray, fields: Sequence[kd.Field]) -> Arrays:
    """The ids as contiguous int32 and the labels as float32."""
    if x.ndim != 2 or x.shape[1] != len(fields) or not np.issubdtype(x.dtype, np.integer):
        raise ValueError(
            f"{place}: ids must be integers of shape [rows, {len(fields)}], one column a field; received {x.dtype} of "
            f"shape {x.shape}."
        )
    if y.shape != x.shape[:1] or len(y) < 4:
        raise ValueError(
            f"{place}: there must be one label a row, and at least 4 rows; received {len(x)} rows of ids and labels of "
            f"shape {y.shape}."
        )
    for column, (field, low, high) in enumerate(zip(fields, x.min(0), x.max(0), strict=True)):
        if low < 0 or high >= field.vocabulary_size:
            raise ValueError(
                f"{place}: ids of field {field.name!r} (column {column}) must lie in [0, {field.vocabulary_size - 1}]; "
                f"received {low} to {high}. Raise its vocabulary size, or map other values to an out-of-vocabulary id."
            )
    values = np.unique(y)
    if not np.array_equal(values, (0, 1)):
        shown = ", ".join(str(value) for value in values[:MAX_SHOWN]) + (", ..." if len(values) > MAX_SHOWN else "")
        raise ValueError(f"{place}: labels must be 0 and 1, and both must occur; received {shown}.")
    return np.ascontiguousarray(x, np.int32), np.ascontiguousarray(y, np.float32)
