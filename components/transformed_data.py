"""Fields and batches out of what the Transform component wrote."""

import os
from collections.abc import Sequence

import numpy as np
import tensorflow as tf
import tensorflow_transform as tft

from keras_dimgrow import Field, choose_batch_size

# Up to this many bytes of (compressed) records, a split is parsed once and held in memory as int32.
MAX_BYTES_IN_MEMORY = 2**30
_ROWS_PER_PARSE = 4096


def fields_of(tft_output: tft.TFTransformOutput, label: str) -> list[Field]:
    """The categorical features of a transformed schema, but the label, in its order.

    Raises:
        ValueError: if there is none, or the vocabulary of one holds no value but missing and out-of-vocabulary.
    """
    fields = []
    for feature in tft_output.transformed_metadata.schema.feature:
        if feature.name == label or not feature.int_domain.is_categorical:
            continue
        size = feature.int_domain.max + 1
        if size <= 2:
            raise ValueError(
                f"Field {feature.name!r}: its vocabulary holds no value but missing and out-of-vocabulary. Every value is "
                "rarer than features.min_frequency: lower that, or remove the column from the configuration's features."
            )
        fields.append(Field(name=feature.name, vocabulary_size=size))
    if not fields:
        raise ValueError("The transformed schema has no categorical integer feature but the label: nothing to embed.")
    return fields


def read_split(
    files: Sequence[str], fields: Sequence[Field], label: str, batch_size: int | None, shuffle_seed: int | None = None
) -> tf.data.Dataset:
    """Batches of ({field: int32 [B]}, label float32 [B]) from gzip TFRecords of transformed examples.

    Args:
        files: paths of the split's files.
        batch_size: rows of a batch; None: as `choose_batch_size` has it for the rows of this split.
        shuffle_seed: seed of a new order in each pass, the same in every process; None keeps the order of the files.
            A short last batch is dropped when shuffling, so that a shuffled pass has batches of one size.

    Returns:
        One pass. Its `cardinality()` is known; for a split that is streamed, records are counted for it, once, unparsed.

    Raises:
        ValueError: if there are no files, or no rows.
    """
    if not files:
        raise ValueError("No files to read transformed examples from: does the split exist?")
    names = [field.name for field in fields]
    spec = {name: tf.io.FixedLenFeature([], tf.int64) for name in (*names, label)}

    def parse(records):
        parsed = tf.io.parse_example(records, spec)
        ids = tf.cast(tf.stack([parsed[name] for name in names], axis=1), tf.int32)
        return ids, tf.cast(parsed[label], tf.float32)

    def unpack(ids, labels):
        return dict(zip(names, tf.unstack(ids, num=len(names), axis=1), strict=True)), labels

    is_shuffled = shuffle_seed is not None
    records = tf.data.TFRecordDataset(sorted(files), compression_type="GZIP")
    if sum(tf.io.gfile.stat(file).length for file in files) > MAX_BYTES_IN_MEMORY:
        num_rows = _count(records)
        batch_size = batch_size or choose_batch_size(num_rows)
        if is_shuffled:
            records = records.shuffle(64 * batch_size, seed=shuffle_seed)
        batches = records.batch(batch_size, drop_remainder=is_shuffled).map(parse, num_parallel_calls=2)
        num_batches = num_rows // batch_size if is_shuffled else -(-num_rows // batch_size)
        return batches.map(unpack).prefetch(2).apply(tf.data.experimental.assert_cardinality(num_batches))

    parsed = list(records.batch(_ROWS_PER_PARSE).map(parse, num_parallel_calls=2).as_numpy_iterator())
    if not parsed:
        raise ValueError(f"No rows in {os.path.dirname(sorted(files)[0])}: every row went to other splits. Add data.")
    ids, labels = (tf.constant(np.concatenate(part)) for part in zip(*parsed, strict=True))
    num_rows = len(labels)
    batch_size = batch_size or choose_batch_size(num_rows)
    order = tf.data.Dataset.range(num_rows)
    if is_shuffled:
        order = order.shuffle(num_rows, seed=shuffle_seed, reshuffle_each_iteration=True)
    # A split smaller than a batch is one batch.
    batches = order.batch(min(batch_size, num_rows), drop_remainder=is_shuffled)
    return batches.map(lambda rows: unpack(tf.gather(ids, rows), tf.gather(labels, rows))).prefetch(4)


def _count(records: tf.data.Dataset) -> int:
    """Records in the files, which are read but not parsed."""
    sizes = records.batch(_ROWS_PER_PARSE).map(lambda batch: tf.size(batch, tf.int64))
    return int(sizes.reduce(tf.constant(0, tf.int64), tf.add))
