"""Variables whose parts come and go: GrowableVariable gains rows or columns without a retrace, PoolVariable reuses rows.

The TensorFlow variable underneath a GrowableVariable has a dynamic shape, e.g. `(V, None)`, so that functions traced
over it stay valid after growth (docs/decisions/0002). All sizes are read from the variable itself, never from Python
counters: what a checkpoint restores is what the layer then has.
"""

from collections.abc import Callable, Sequence

import keras
import numpy as np
import tensorflow as tf


class GrowableVariable(keras.Variable):
    """A Keras variable with growable axes, on the TensorFlow backend.

    Args:
        initializer: Keras initializer (or its name) of the first value.
        shape: concrete shape at the start.
        growable_axes: the axes along which `insert` may add slices.
        dtype, trainable, name: as for `keras.Variable`.

    In eager code `shape` is the present shape; while a function is traced, growable axes are `None`.
    """

    def __init__(
        self,
        initializer,
        shape: Sequence[int],
        growable_axes: Sequence[int],
        dtype: str | None = None,
        trainable: bool = True,
        name: str | None = None,
    ):
        self._dynamic_shape = tuple(None if axis in growable_axes else size for axis, size in enumerate(shape))
        # Without autocast: under mixed precision it would copy the whole table; callers cast the rows they gathered.
        super().__init__(
            keras.initializers.get(initializer),
            shape=shape,
            dtype=dtype,
            trainable=trainable,
            autocast=False,
            name=name,
        )
        self.regularizer = None
        self.constraint = None

    @property
    def growable_axes(self) -> tuple[int, ...]:
        """The axes along which the variable can grow."""
        return tuple(axis for axis, size in enumerate(self._dynamic_shape) if size is None)

    def _initialize(self, value):
        self._value = tf.Variable(
            value,
            dtype=self._dtype,
            trainable=self.trainable,
            name=self.name,
            shape=tf.TensorShape(self._dynamic_shape),
            aggregation=self._map_aggregation(self.aggregation),
            synchronization=self._map_synchronization(self.synchronization),
        )

    def _primary(self) -> tf.Variable:
        """The variable itself, or its first replica under a distribution strategy."""
        return getattr(self._value, "values", [self._value])[0]

    @property
    def device(self) -> str:
        """Where the variable is: what is computed for it eagerly, as large as itself, is computed there."""
        return self._primary().device

    @property
    def shape(self) -> tf.TensorShape:
        if getattr(self, "_value", None) is None:
            return tf.TensorShape(self._shape)
        if tf.executing_eagerly():
            return tf.TensorShape(tf.raw_ops.VariableShape(input=self._primary().handle).numpy())
        return tf.TensorShape(self._dynamic_shape)

    def assign(self, value):
        """Assigns a value of any size along the growable axes (a wider checkpoint just loads)."""
        value = self._convert_to_tensor(value, dtype=self._dtype)
        if not tf.TensorShape(self._dynamic_shape).is_compatible_with(value.shape):
            raise ValueError(f"{self.path}: a value of shape {value.shape} does not fit {self._dynamic_shape}.")
        self._direct_assign(value)
        return value

    def insert(self, axis: int, position: int | Sequence[int], values) -> None:
        """Inserts the slices `values` before `position` along `axis`, in eager code.

        Several positions, ascending, take one slice each, as in `np.insert`; a single one takes all of `values`.
        """
        if axis not in self.growable_axes:
            raise ValueError(f"{self.path}: axis {axis} is fixed; growable axes are {self.growable_axes}.")
        positions = [position] if isinstance(position, int) else list(position)
        with tf.device(self.device):
            old, values = self._primary().read_value(), tf.cast(values, self._dtype)
            parts = [old, values]
            if positions != [old.shape[axis]]:  # a split would copy a whole table
                kept = tf.split(old, np.diff([0, *positions, old.shape[axis]]), axis=axis)
                slices = tf.split(values, len(positions), axis=axis)
                parts = [part for pair in zip(kept, slices, strict=False) for part in pair] + [kept[-1]]
            whole = tf.concat(parts, axis)
        self._value.assign(whole)

    def write_slice(self, axis: int, position: int, value: float) -> None:
        """Sets every element of one slice along `axis` to `value`, in eager code."""
        array = np.array(self._primary().read_value())
        array[(slice(None),) * axis + (position,)] = value
        self._value.assign(array)


class PoolVariable(keras.Variable):
    """A Keras variable [slots, width] whose rows change owners: it tells optimizers which rows they have to start anew.

    Attributes:
        is_fresh: bool [slots], variable: rows with a new owner since the optimizer's last update.
        num_fresh: int32 [], variable: how many they are.
        num_look_ups: int32 [], variable: look-ups in training since `sum_by_row`; each gives a row at most one gradient.
    """

    is_fresh: keras.Variable
    num_fresh: keras.Variable
    num_look_ups: keras.Variable

    def reset_slots(self, slots: Sequence[tuple[keras.Variable, Callable | None]]) -> None:
        """Starts the fresh rows of an optimizer's slots by their initializers, or as the pool's own rows for None.

        For graphs too: without fresh rows it costs a look at one number.
        """

        def reset():
            rows = tf.where(self.is_fresh.value)[:, 0]
            for slot, initializer in slots:
                if initializer is None:
                    start = tf.gather(self.value, rows)
                else:
                    row = initializer((1, self.shape[1]), dtype=slot.dtype)
                    start = tf.repeat(row, tf.size(rows), axis=0)
                slot.value.scatter_update(tf.IndexedSlices(start, rows))
            self.is_fresh.value.assign(tf.zeros_like(self.is_fresh.value))
            self.num_fresh.value.assign(0)
            return True

        tf.cond(self.num_fresh.value > 0, reset, lambda: False)

    def sum_by_row(self, gradient: tf.IndexedSlices) -> tuple[tf.Tensor, tf.Tensor]:
        """Distinct rows, and their gradients: those of a single look-up are distinct as they are."""
        is_single = self.num_look_ups.value <= 1
        rows = tf.cond(is_single, lambda: (gradient.indices, gradient.values), lambda: sum_by_row(gradient))
        self.num_look_ups.value.assign(0)
        return rows


def sum_by_row(gradient: tf.IndexedSlices) -> tuple[tf.Tensor, tf.Tensor]:
    """The distinct rows of a sparse gradient, and the sum of each one's gradients."""
    rows, position = tf.unique(gradient.indices)
    return rows, tf.math.unsorted_segment_sum(gradient.values, position, tf.size(rows))
