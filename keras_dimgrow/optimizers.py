"""Optimizers whose slots grow with their variables, and a row-sparse Adam for embedding tables."""

from typing import TYPE_CHECKING

import keras
import tensorflow as tf

from keras_dimgrow.variables import GrowableVariable

if TYPE_CHECKING:
    from keras.optimizers import Optimizer as _Optimizer
else:
    _Optimizer = object


class GrowableSlots(_Optimizer):
    """Mixin, before a Keras optimizer: the slots of a `GrowableVariable` are growable and grow at the same place.

    Build the optimizer eagerly (the `DimensionSearch` callback does) and call `insert_slots` with every `insert`.
    """

    def add_variable_from_reference(self, reference_variable, name=None, initializer="zeros"):
        if not isinstance(reference_variable, GrowableVariable):
            return super().add_variable_from_reference(reference_variable, name=name, initializer=initializer)
        with tf.init_scope():
            shape = tuple(reference_variable.shape)
        with self._distribution_strategy.extended.colocate_vars_with(reference_variable.value):
            slot = GrowableVariable(
                initializer,
                shape=shape,
                growable_axes=reference_variable.growable_axes,
                dtype=reference_variable.dtype,
                trainable=False,
                name=f"{reference_variable.path.replace('/', '_')}_{name or 'slot'}",
            )
        self._track_variable(slot)
        # Not tracked: the same variables are already tracked once.
        slots = self.__dict__.setdefault("_slots_by_variable", {})
        slots.setdefault(self._var_key(reference_variable), []).append((name, slot))
        return slot

    def slots_of(self, variable: GrowableVariable) -> list[tuple[str, GrowableVariable]]:
        """Name and variable of each slot that belongs to `variable`."""
        return self.__dict__.get("_slots_by_variable", {}).get(self._var_key(variable), [])

    def insert_slots(self, variable: GrowableVariable, axis: int, position: int, values) -> None:
        """Grows every slot of `variable` where `values` were inserted: zeros, or `values` for a moving average."""
        for name, slot in self.slots_of(variable):
            slot.insert(axis, position, values if name == "average" else tf.zeros_like(values))

    def reset_slots(self, variable: GrowableVariable, axis: int, position: int, value: float) -> None:
        """Resets one slice of every slot of `variable`, set to `value`: zeros, or `value` for a moving average."""
        for name, slot in self.slots_of(variable):
            slot.write_slice(axis, position, value if name == "average" else 0.0)

    def _backend_reset_gradient_accumulators(self):
        # Keras asks for zeros of the variable's static shape, which a growable one does not have.
        for accumulator in self._accumulated_gradients:
            if accumulator is not None:
                accumulator.value.assign(tf.zeros_like(accumulator.value))


@keras.saving.register_keras_serializable("keras_dimgrow")
class GrowableAdam(GrowableSlots, keras.optimizers.Adam):
    """Keras Adam (dense updates) for models with growable variables."""


@keras.saving.register_keras_serializable("keras_dimgrow")
class LazyAdam(GrowableSlots, keras.optimizers.Adam):
    """Adam that updates only the rows of an embedding table that the batch touched.

    For a gradient of `tf.gather` (IndexedSlices) the moments and the table are read and written at the touched rows
    alone, O(B * d) a step instead of O(V * d); moments of untouched rows do not decay. When a batch touches every row
    the update equals Keras Adam's. Dense gradients, and `amsgrad`, use Keras Adam as it is. Arguments are Adam's.
    """

    def update_step(self, gradient, variable, learning_rate):
        if not isinstance(gradient, tf.IndexedSlices) or self.amsgrad:
            super().update_step(gradient, variable, learning_rate)
            return
        index = self._get_variable_index(variable)
        momentum, velocity = self._momentums[index].value, self._velocities[index].value
        dtype = variable.dtype
        step = tf.cast(self.iterations + 1, dtype)
        beta_1, beta_2 = tf.cast(self.beta_1, dtype), tf.cast(self.beta_2, dtype)
        alpha = tf.cast(learning_rate, dtype) * tf.sqrt(1 - beta_2**step) / (1 - beta_1**step)

        rows, position = tf.unique(gradient.indices)
        summed = tf.math.unsorted_segment_sum(tf.cast(gradient.values, dtype), position, tf.size(rows))
        new_momentum = tf.gather(momentum, rows)
        new_momentum += (summed - new_momentum) * (1 - self.beta_1)
        new_velocity = tf.gather(velocity, rows)
        new_velocity += (tf.square(summed) - new_velocity) * (1 - self.beta_2)
        momentum.scatter_update(tf.IndexedSlices(new_momentum, rows))
        velocity.scatter_update(tf.IndexedSlices(new_velocity, rows))
        update = alpha * new_momentum / (tf.sqrt(new_velocity) + self.epsilon)
        variable.scatter_sub(tf.IndexedSlices(update, rows))
