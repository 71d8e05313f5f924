"""The ids of each field, out of the inputs that models have, and their embedding."""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from keras_dimgrow.fields import FieldInput


class FieldIds(NamedTuple):
    """Ids of one field, int [B] or, with a combiner, [B, L]; weights [B, L] or None."""

    ids: tf.Tensor
    weights: tf.Tensor | None = None


def read_ids(
    inputs,
    fields: Sequence[FieldInput],
    layer_name: str,
    check_in_graph: bool = False,
    columns: Sequence[FieldInput] | None = None,
) -> list[FieldIds]:
    """The ids of each field from a dict {name: ids}, a list in the order of `columns`, or a matrix [B, columns].

    Ids are int [B] or [B, 1]; [B, L] for a field with a combiner, whose weights come in a dict under their own name. One
    field alone may come as it is.

    Args:
        check_in_graph: adds the check of the ids' range to traced functions; eager code always checks.
        columns: what a list or matrix holds, `fields` among others; None: just `fields`.

    Raises:
        ValueError: if a field is missing, the number of columns is not the number of fields, ids are no integers or not
            of their field's rank, or, in eager code, an id is outside its vocabulary.
        tf.errors.InvalidArgumentError: with `check_in_graph`, from a traced function with such an id.
    """
    found = _find(inputs, fields, columns or fields, layer_name)
    read = [_read(found[field.name], field, inputs, layer_name) for field in fields]
    if all(hasattr(field_ids.ids, "numpy") for field_ids in read):  # eager, and no symbolic input of Keras
        for field_ids, field in zip(read, fields, strict=True):
            _require_range(field_ids.ids.numpy(), field, layer_name)
    elif check_in_graph:
        # Without the dependency, a lookup may fail first, on a CPU, with an error that names no field.
        with tf.control_dependencies([_assert_range([field_ids.ids for field_ids in read], fields, layer_name)]):
            read = [field_ids._replace(ids=tf.identity(field_ids.ids)) for field_ids in read]
    return read


def _find(inputs, fields: Sequence[FieldInput], columns: Sequence[FieldInput], layer_name: str) -> Mapping:
    """Field name -> its input."""
    if isinstance(inputs, Mapping):
        missing = [field.name for field in fields if field.name not in inputs]
        if missing:
            raise ValueError(
                f"{layer_name}: no ids for fields {missing}; received inputs {sorted(inputs)}. "
                "Pass a dict with the ids of every field under the field's name."
            )
        return inputs
    if isinstance(inputs, list | tuple):
        values = list(inputs)
    else:
        has_columns = len(inputs.shape) == 2 and inputs.shape[1] is not None
        values = tf.unstack(inputs, axis=1) if has_columns and len(columns) > 1 else [inputs]
    names = [field.name for field in columns]
    if len(values) != len(names):
        raise ValueError(f"{layer_name}: received ids of {len(values)} fields, expected {len(names)}: {names}.")
    return dict(zip(names, values, strict=True))


def _read(ids, field: FieldInput, inputs, layer_name: str) -> FieldIds:
    ids = tf.convert_to_tensor(ids)
    where = f"{layer_name}, field {field.name!r}"
    if ids.dtype.is_floating and tf.distribute.has_strategy() and not hasattr(ids, "numpy"):
        # Before a first fit under a strategy, Keras traces the model with the mean of the replicas' ids.
        with tf.control_dependencies(
            [tf.debugging.Assert(False, [f"{where}: ids must be integers; received floats."])]
        ):
            ids = tf.cast(ids, tf.int32)
    if not ids.dtype.is_integer:
        cure = (
            "Put a StringLookup before the layer."
            if ids.dtype == tf.string
            else "Cast them to int32 or int64; a Sequential model keeps integers if it starts with "
            'keras.Input(..., dtype="int32").'
        )
        raise ValueError(f"{where}: ids must be integers; received {ids.dtype.name}. {cure}")
    if ids.dtype not in (tf.int32, tf.int64):
        ids = tf.cast(ids, tf.int64)
    if field.combiner is None:
        if ids.shape.rank == 2 and ids.shape[1] in (1, None):
            return FieldIds(tf.squeeze(ids, 1))
        if ids.shape.rank != 1:
            raise ValueError(
                f"{where}: ids must have shape [B] or [B, 1]; received {ids.shape}. "
                'A field with many values a row needs a combiner, e.g. Field(..., combiner="mean").'
            )
        return FieldIds(ids)
    if ids.shape.rank != 2:
        raise ValueError(f"{where}: with a combiner, ids must have shape [B, L]; received {ids.shape}.")
    if field.weights is None:
        return FieldIds(ids)
    if not isinstance(inputs, Mapping) or field.weights not in inputs:
        received = sorted(inputs) if isinstance(inputs, Mapping) else type(inputs).__name__
        raise ValueError(
            f"{where}: no input {field.weights!r} with its weights; received {received}. "
            "Pass a dict with the weights, float [B, L], under this name."
        )
    weights = tf.convert_to_tensor(inputs[field.weights])
    if not ids.shape.is_compatible_with(weights.shape):
        raise ValueError(f"{where}: weights have shape {weights.shape}, ids {ids.shape}; they must be the same.")
    return FieldIds(ids, weights)


def _require_range(ids: np.ndarray, field: FieldInput, layer_name: str) -> None:
    is_wrong = (ids < 0) | (ids >= field.vocabulary_size)
    if field.missing_id is not None:
        is_wrong &= ids != field.missing_id
    if is_wrong.any():
        row = int(np.argwhere(is_wrong)[0][0])
        raise ValueError(
            f"{layer_name}, field {field.name!r}: ids must be in 0 .. {field.vocabulary_size - 1}; received "
            f"{ids[is_wrong][0]} in row {row} of the batch. Map unknown values to an id of their own, raise "
            "vocabulary_size, or name the id of absent values with missing_id."
        )


def _assert_range(ids: Sequence[tf.Tensor], fields: Sequence[FieldInput], layer_name: str):
    def is_wrong(values: tf.Tensor, field: FieldInput) -> tf.Tensor:
        wrong = (values < 0) | (values >= field.vocabulary_size)
        if field.missing_id is not None:
            wrong &= values != field.missing_id
        return tf.reduce_any(wrong)

    wrong = tf.stack([is_wrong(values, field) for values, field in zip(ids, fields, strict=True)])
    names = tf.boolean_mask(tf.constant([field.name for field in fields]), wrong)
    return tf.debugging.Assert(
        tf.logical_not(tf.reduce_any(wrong)),
        [f"{layer_name}: ids outside 0 .. vocabulary_size - 1 in fields", names],
        summarize=len(fields),
    )


def embed(table: tf.Variable, ids: FieldIds, field: FieldInput, offset: int = 0) -> tf.Tensor:
    """Embeds one field: [B, d] out of `table` [rows, d], whose row `offset` is the field's id 0.

    Only rows of values that are there are read, and get gradients.
    """
    # tf.gather on the variable reads the touched rows only; keras.ops.take would copy the table first.
    return embed_by(functools.partial(tf.gather, table), ids, field, offset)


def embed_by(lookup: Callable[[tf.Tensor], tf.Tensor], ids: FieldIds, field: FieldInput, offset: int = 0) -> tf.Tensor:
    """`embed` with a way to look up rows, int [N] -> [N, d], in the place of a table."""
    if field.is_plain:
        return lookup(ids.ids + offset if offset else ids.ids)
    # In int64: a fused table may have more rows than int32 can count.
    return combine(lookup(tf.cast(present_ids(ids, field), tf.int64) + offset), ids, field)


def present_ids(ids: FieldIds, field: FieldInput) -> tf.Tensor:
    """The ids of all values that are there, row by row, int [N]: what `combine` takes the embeddings of."""
    values, is_there = _values(ids, field)
    return tf.boolean_mask(values, is_there)


def combine(embedded: tf.Tensor, ids: FieldIds, field: FieldInput) -> tf.Tensor:
    """The embedding of each row, [B, d], from those of its values, [N, d], in the order of `present_ids`."""
    values, is_there = _values(ids, field)
    rows = tf.where(is_there)[:, 0]
    weights = tf.ones_like(rows, embedded.dtype)
    if ids.weights is not None:
        weights = tf.cast(tf.boolean_mask(ids.weights, is_there), embedded.dtype)
        embedded *= weights[:, tf.newaxis]
    num_rows = tf.shape(values)[0]
    total = tf.math.unsorted_segment_sum(embedded, rows, num_rows)
    if field.combiner in (None, "sum"):
        return total
    if field.combiner == "mean":
        divisor = tf.math.unsorted_segment_sum(weights, rows, num_rows)
    else:
        divisor = tf.sqrt(tf.math.unsorted_segment_sum(tf.square(weights), rows, num_rows))
    return tf.math.divide_no_nan(total, divisor[:, tf.newaxis])


def _values(ids: FieldIds, field: FieldInput) -> tuple[tf.Tensor, tf.Tensor]:
    """Ids [B, L], and which of them are values."""
    values = ids.ids if field.combiner is not None else ids.ids[:, tf.newaxis]
    return values, tf.ones_like(values, tf.bool) if field.missing_id is None else values != field.missing_id


def batch_size_of(input_shape) -> int | None:
    """The batch size in the (possibly nested) shape of a layer's input."""
    while not isinstance(input_shape, tuple) or isinstance(input_shape[0], Mapping | list | tuple):
        input_shape = next(iter(input_shape.values())) if isinstance(input_shape, Mapping) else input_shape[0]
    return input_shape[0]
