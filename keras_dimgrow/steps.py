"""How many training steps a method takes, and of how many rows: both follow from the size of the data."""

import tensorflow as tf

# Fewer training rows than this -> rows of a batch.
_BATCH_SIZES = {50_000: 256, 1_000_000: 1024}
_LARGEST_BATCH_SIZE = 2048


def choose_batch_size(num_rows: int) -> int:
    """Rows of a batch, for searches and trainings alike, that suit so many training rows.

    Example:
        >>> [choose_batch_size(num_rows) for num_rows in (10_000, 200_000, 45_000_000)]
        [256, 1024, 2048]
    """
    return next((size for limit, size in _BATCH_SIZES.items() if num_rows < limit), _LARGEST_BATCH_SIZE)


def steps_per_pass(data: tf.data.Dataset) -> int:
    """Batches in one pass over `data`, counted if TensorFlow does not know.

    Raises:
        ValueError: for data without batches or without an end.

    Example:
        >>> steps_per_pass(tf.data.Dataset.range(10).batch(4))
        3
    """
    steps = int(data.cardinality())
    if steps == tf.data.UNKNOWN_CARDINALITY:
        steps = int(data.reduce(0, lambda count, _: count + 1))
    if steps <= 0:
        received = "repeats for ever" if steps == tf.data.INFINITE_CARDINALITY else "has no batches"
        raise ValueError(f"train_data must be one pass over the rows, in batches; received a dataset that {received}.")
    return steps


def rows_per_pass(data: tf.data.Dataset) -> int:
    """Rows in one pass over batches of (ids, labels), the last one counted as if it were whole.

    Of batches whose size the data's specification does not say, one is read: a shuffle goes on behind it.

    Example:
        >>> rows_per_pass(tf.data.Dataset.from_tensor_slices((tf.range(10), tf.range(10))).batch(4))
        12
    """
    batch_size = data.element_spec[1].shape[0]
    if batch_size is None:
        batch_size = next(len(batch[1]) for batch in data.take(1))
    return steps_per_pass(data) * batch_size


def steps_for(data: tf.data.Dataset, epochs: float, max_steps: int | None) -> int:
    """Steps in `epochs` passes over `data` (at least 1), but `max_steps` at most."""
    steps = max(1, round(epochs * steps_per_pass(data)))
    return steps if max_steps is None else min(steps, max_steps)


def epochs_within(data: tf.data.Dataset, max_epochs: int, max_steps: int | None) -> tuple[int, int]:
    """Whole passes over `data`, and steps in each, that take `max_steps` at most; part of one if no pass does."""
    steps = steps_per_pass(data)
    if max_steps is None:
        return max_epochs, steps
    return max(1, min(max_epochs, max_steps // steps)), min(steps, max_steps)
