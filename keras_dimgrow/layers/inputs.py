"""The ids of each field, out of the inputs that models have."""

from collections.abc import Mapping, Sequence

import tensorflow as tf


def ids_of_fields(inputs, names: Sequence[str], name_of_layer: str) -> list[tf.Tensor]:
    """One int tensor [B] a field from a dict of [B] or [B, 1], a list in the fields' order, or a matrix [B, F].

    One field alone may come as a vector [B].

    Raises:
        ValueError: if a field is missing or the number of columns is not the number of fields.
    """
    if isinstance(inputs, Mapping):
        missing = [name for name in names if name not in inputs]
        if missing:
            raise ValueError(
                f"{name_of_layer}: no ids for fields {missing}; received inputs {sorted(inputs)}. "
                "Pass a dict with the ids of every field under the field's name."
            )
        columns = [inputs[name] for name in names]
    elif isinstance(inputs, list | tuple):
        columns = list(inputs)
    else:
        has_columns = len(inputs.shape) == 2 and inputs.shape[1] is not None
        columns = tf.unstack(inputs, axis=1) if has_columns else [inputs]
    if len(columns) != len(names):
        raise ValueError(
            f"{name_of_layer}: received ids of {len(columns)} fields, expected {len(names)}: {list(names)}."
        )
    columns = [_as_integers(ids, name_of_layer) for ids in columns]
    return [tf.squeeze(ids, 1) if len(ids.shape) == 2 else ids for ids in columns]


def _as_integers(ids, name_of_layer: str) -> tf.Tensor:
    """Ids as they are; floats fail when the function runs, not while it is traced."""
    if not tf.as_dtype(ids.dtype).is_floating:
        return ids
    # Before a first fit under a tf.distribute strategy, Keras traces the model with the mean of the replicas' ids.
    message = f"{name_of_layer}: received {tf.as_dtype(ids.dtype).name} ids. Pass integers: half precision merges ids."
    with tf.control_dependencies([tf.debugging.Assert(False, [message])]):
        return tf.cast(ids, tf.int32)


def batch_size_of(input_shape) -> int | None:
    """The batch size in the (possibly nested) shape of a layer's input."""
    while not isinstance(input_shape, tuple) or isinstance(input_shape[0], Mapping | list | tuple):
        input_shape = next(iter(input_shape.values())) if isinstance(input_shape, Mapping) else input_shape[0]
    return input_shape[0]
