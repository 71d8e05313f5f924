"""Fields and batches out of what the Transform component wrote."""

import os
from collections.abc import Iterator, Sequence
from itertools import chain

import numpy as np
import tensorflow as tf
import tensorflow_transform as tft
from google.protobuf.message import DecodeError

from components.row_blocks import decode_block, is_block
from components.row_files import RowFiles
from components.rows_in_memory import RowsInMemory
from keras_dimgrow import Field, choose_batch_size

# Up to this many bytes of ids (4 an id), a split is held in memory; a larger one is read from local files in every pass.
MAX_BYTES_IN_MEMORY = 2**26
BYTES_PER_PILE = 2**23  # of ids, 4 bytes each, at most
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

    An example is a block of rows, as the pipeline's Transform writes them (`components.row_blocks`), or one row, as TFX's own
    does. They are parsed once, before the first batch. Memory is bounded whatever the number of rows: ids that take more than
    MAX_BYTES_IN_MEMORY are put into files of the temporary directory (TMPDIR), 4 bytes each, and shuffled there
    (see `components.row_files`): sorted rows make batches that are as good as any.

    Args:
        files: paths of the split's files.
        batch_size: rows of a batch; None: as `choose_batch_size` has it for the rows of this split.
        shuffle_seed: seed of a new order in each pass, the same in every process; None keeps the order of the files.
            A short last batch is dropped when shuffling, so that a shuffled pass has batches of one size.

    Returns:
        One pass. Its `cardinality()` is known.

    Raises:
        ValueError: if there are no files or no rows, or if a file is broken or lacks a field.
        OSError: if the temporary directory is full.
    """
    if not files:
        raise ValueError("No files to read transformed examples from: does the split exist?")
    columns, is_shuffled = [*(field.name for field in fields), label], shuffle_seed is not None
    held = RowsInMemory(MAX_BYTES_IN_MEMORY, len(columns))
    rows: RowsInMemory | RowFiles = held
    chunks = _parse(sorted(files), columns)
    for chunk in chunks:
        if not held.append(chunk):
            # A block may hold an id in one byte.
            max_bytes = 4 * sum(_inflated_bytes(file) for file in files)
            num_piles = -(-max_bytes // BYTES_PER_PILE) if is_shuffled else None
            rows = RowFiles(chain([held.rows, chunk], chunks), len(columns), num_piles, shuffle_seed or 0)
    if not rows.num_rows:
        raise ValueError(f"No rows in {os.path.dirname(sorted(files)[0])}: every row went to other splits. Add data.")
    # A split smaller than a batch is one batch.
    batch_size = min(batch_size or choose_batch_size(rows.num_rows), rows.num_rows)
    shape = [batch_size if is_shuffled else None, len(columns)]
    return rows.batches(batch_size, shuffle_seed, lambda batch: _unpack(batch, fields, shape)).prefetch(4)


def _unpack(
    batch: tf.Tensor, fields: Sequence[Field], shape: Sequence[int | None]
) -> tuple[dict[str, tf.Tensor], tf.Tensor]:
    *ids, labels = tf.unstack(tf.ensure_shape(batch, shape), axis=1)
    return dict(zip([field.name for field in fields], ids, strict=True)), tf.cast(labels, tf.float32)


def _parse(files: Sequence[str], columns: Sequence[str]) -> Iterator[np.ndarray]:
    """The columns of all rows, int32 [rows, columns] in parts, in the order of the files."""
    records = tf.data.TFRecordDataset(files, compression_type="GZIP", buffer_size=2**20)
    try:
        # Records are inflated while others are decoded.
        blocks = records.prefetch(4).as_numpy_iterator()
        first = next(blocks, None)
        if first is None:
            return
        if is_block(first):
            yield from (decode_block(record, columns) for record in chain([first], blocks))
        else:
            # A batch at once: ten times as fast as one by one.
            chunks = records.batch(_ROWS_PER_PARSE).map(lambda rows: _parse_rows(rows, columns), num_parallel_calls=2)
            yield from chunks.prefetch(1).as_numpy_iterator()
    except (tf.errors.DataLossError, tf.errors.InvalidArgumentError, DecodeError, ValueError) as error:
        reason = error.message if isinstance(error, tf.errors.OpError) else error
        message = f"{_find_broken(files)}: not what Transform writes ({reason})"
        raise ValueError(f"{message}. Remove the artifact that it is in, and run Transform again.") from error


def _parse_rows(rows: tf.Tensor, columns: Sequence[str]) -> tf.Tensor:
    parsed = tf.io.parse_example(rows, {name: tf.io.FixedLenFeature([], tf.int64) for name in columns})
    return tf.cast(tf.stack([parsed[name] for name in columns], axis=1), tf.int32)


def _inflated_bytes(file: str) -> int:
    """What a gzip file inflates to: its last four bytes hold it modulo 2^32, and it is no less than the file's length."""
    length = tf.io.gfile.stat(file).length
    with tf.io.gfile.GFile(file, "rb") as stream:
        stream.seek(max(length - 4, 0))
        remainder = int.from_bytes(stream.read(4), "little")
    return remainder + 2**32 * max(0, -(-(length - remainder) // 2**32))


def _find_broken(files: Sequence[str]) -> str:
    """The first file whose records cannot be read; the directory of all if each of them can."""
    for file in files:
        try:
            for _ in tf.data.TFRecordDataset(file, compression_type="GZIP").batch(_ROWS_PER_PARSE):
                pass
        except tf.errors.OpError:
            return file
    return os.path.dirname(files[0])
