"""Optimizers whose slots follow their variables (`growable` makes one of any), and a row-sparse Adam for tables."""

import functools
from typing import TYPE_CHECKING, Any

import keras
import tensorflow as tf

from keras_dimgrow.variables import GrowableVariable, PoolVariable, sum_by_row

if TYPE_CHECKING:
    from keras.optimizers import Optimizer as _Optimizer
else:
    _Optimizer = object


class GrowableSlots(_Optimizer):
    """Mixin, before a Keras optimizer: the slots of a `GrowableVariable` are growable and grow at the same place.

    The slots of a `PoolVariable` start anew where a row of it has a new owner, before the first update of that row.

    Build the optimizer eagerly (the `DimensionSearch` callback does) and call `insert_slots` with every `insert`. It
    finds the slots that are made by `add_variable_from_reference`, as Keras's optimizers make them.
    """

    # Keras says that these start as zeros, and then starts them as the variable's own values.
    _value_slots: tuple[str, ...] = ("average",)

    def add_variable_from_reference(self, reference_variable, name=None, initializer="zeros"):
        if not isinstance(reference_variable, GrowableVariable):
            slot = super().add_variable_from_reference(reference_variable, name=name, initializer=initializer)
            if isinstance(reference_variable, PoolVariable):
                self._remember_slot(reference_variable, name, slot, initializer)
            return slot
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
        self._remember_slot(reference_variable, name, slot, initializer)
        return slot

    def _remember_slot(self, variable, name, slot, initializer) -> None:
        # Not tracked: the same variables are already tracked once.
        slots = self.__dict__.setdefault("_slots_by_variable", {})
        slots.setdefault(self._var_key(variable), []).append((name, slot, keras.initializers.get(initializer)))

    def slots_of(self, variable: keras.Variable) -> list[tuple[str, keras.Variable]]:
        """Name and variable of each slot that belongs to `variable`."""
        return [(name, slot) for name, slot, _ in self._slots_with_initializers(variable)]

    def _slots_with_initializers(self, variable):
        return self.__dict__.get("_slots_by_variable", {}).get(self._var_key(variable), [])

    def insert_slots(self, variable: GrowableVariable, axis: int, position: int, values) -> None:
        """Grows every slot of `variable` where `values` were inserted, and starts it there as a fresh optimizer would.

        That is zeros for most slots, `values` for a moving average, the initial accumulator value for Adagrad and Ftrl.
        """
        for name, slot, initializer in self._slots_with_initializers(variable):
            with tf.device(slot.device):
                start = values if name in self._value_slots else initializer(tuple(values.shape), dtype=slot.dtype)
            slot.insert(axis, position, start)

    def reset_slots(self, variable: GrowableVariable, axis: int, position: int, value: float) -> None:
        """Starts one slice of every slot of `variable`, now set to `value`, as a fresh optimizer would."""
        for name, slot, initializer in self._slots_with_initializers(variable):
            shape = [size for i, size in enumerate(slot.shape) if i != axis]
            slot.write_slice(axis, position, value if name in self._value_slots else initializer(shape, slot.dtype))

    def _all_reduce_sum_gradients(self, grads_and_vars):
        # TensorFlow's collective gather crashes on slices without columns: over replicas they go with a column of zeros.
        if not tf.distribute.in_cross_replica_context() and tf.distribute.get_strategy().num_replicas_in_sync > 1:
            grads_and_vars = [(_with_columns(gradient), variable) for gradient, variable in grads_and_vars]
            reduced = super()._all_reduce_sum_gradients(grads_and_vars)
            return [(_columns_of(gradient, variable), variable) for gradient, variable in reduced]
        return super()._all_reduce_sum_gradients(grads_and_vars)

    def _backend_apply_gradients(self, grads, trainable_variables):
        for variable in trainable_variables:
            if isinstance(variable, PoolVariable):
                variable.reset_slots(
                    [
                        (slot, None if name in self._value_slots else initializer)
                        for name, slot, initializer in self._slots_with_initializers(variable)
                    ]
                )
        super()._backend_apply_gradients(grads, trainable_variables)

    def _backend_reset_gradient_accumulators(self):
        # Keras asks for zeros of the variable's static shape, which a growable one does not have.
        for accumulator in self._accumulated_gradients:
            if accumulator is not None:
                accumulator.value.assign(tf.zeros_like(accumulator.value))


def _with_columns(gradient):
    """The slices of a table without columns with one column of zeros; any other gradient as it is."""
    if not isinstance(gradient, tf.IndexedSlices) or gradient.values.shape.rank != 2:
        return gradient
    num_added = tf.cast(tf.shape(gradient.values)[1] == 0, tf.int32)
    values = tf.pad(gradient.values, [[0, 0], [0, num_added]])
    return tf.IndexedSlices(values, gradient.indices, gradient.dense_shape)


def _columns_of(gradient, variable):
    """The inverse of `_with_columns`."""
    if not isinstance(gradient, tf.IndexedSlices) or not isinstance(variable, GrowableVariable):
        return gradient
    values = gradient.values[:, : tf.shape(variable.value)[1]]
    return tf.IndexedSlices(values, gradient.indices, gradient.dense_shape)


class _MuonSlots(GrowableSlots):
    def _should_use_adamw(self, variable):
        # Muon makes a whole matrix orthogonal, which needs static sizes; its authors leave embeddings to AdamW, too.
        return isinstance(variable, GrowableVariable | PoolVariable) or super()._should_use_adamw(variable)


class _ScheduleFreeSlots(GrowableSlots):
    _value_slots = ("average", "momentum")


_SLOTS = {"Muon": _MuonSlots, "ScheduleFreeAdamW": _ScheduleFreeSlots}
# By name: not every version of Keras that this library runs with has all of them.
_REFUSED = {
    "Adafactor": "its slots are sums over rows and columns, which have no place for a new column. Use Adam, LazyAdam or "
    "Adagrad (one slot)",
    "MultiOptimizer": "it has no slots of its own. Use one optimizer for the whole model, such as Adam or LazyAdam",
}


def growable(optimizer):
    """Makes any Keras optimizer one for models that grow: `growable(keras.optimizers.SGD(0.1, momentum=0.9))`.

    The optimizer itself becomes one of class `Growable<Name>`, a subclass of its own and of `GrowableSlots`, and is
    returned: learning rate (or schedule), clipping, weight decay and its exclusions, moving average and accumulation
    stay what they are. Of a LossScaleOptimizer it is the inner optimizer that becomes growable. One that is growable
    already is returned as it is. Updates equal those of the Keras optimizer, step counter included; a new column's slots
    start as in a fresh optimizer. Muon trains growable variables by its AdamW part, as it does embeddings.

    A saved model loads where `keras_dimgrow` is imported; with an optimizer class of your own, call `growable` on one
    before loading.

    Of a sparse gradient (`tf.gather`) Keras's optimizers with second moments (all but SGD, Adamax and Lion) square the
    part of each occurrence of an id, not the sum of the parts; these do so too. An id that is repeated in a batch takes
    longer steps than it would for the same gradient given dense, where its parts agree. `LazyAdam` sums first, and
    touches only the batch's rows.

    Args:
        optimizer: a Keras optimizer that has not been built.

    Raises:
        ValueError: if the optimizer has been built, or cannot grow (Adafactor, MultiOptimizer).
    """
    if not isinstance(optimizer, keras.optimizers.Optimizer):
        raise ValueError(
            f"growable takes a Keras optimizer, such as keras.optimizers.SGD(0.1); received {optimizer!r}. "
            "Use keras.optimizers.get to make one from a name."
        )
    inner = getattr(optimizer, "inner_optimizer", optimizer)
    if isinstance(inner, GrowableSlots):
        return optimizer
    kind: Any = type(inner)
    for base in kind.__mro__:
        if base.__name__ in _REFUSED:
            raise ValueError(f"{kind.__name__} cannot be made growable: {_REFUSED[base.__name__]}.")
    if inner.built:
        raise ValueError(
            f"This {kind.__name__} has been built: its slots have fixed shapes already. Make it growable before the model "
            "is compiled or the optimizer applied: model.compile(keras_dimgrow.growable(optimizer), ...)."
        )
    # Not a copy from its config: that would lose exclude_from_weight_decay, and learning rates that are functions.
    inner.__class__ = _growable_class(kind)
    return optimizer


@functools.cache
def _growable_class(kind):
    """The class `Growable<Name>` of an optimizer class, registered for loading."""
    slots = next((_SLOTS[base.__name__] for base in kind.__mro__ if base.__name__ in _SLOTS), GrowableSlots)
    text = (
        f"Keras's {kind.__name__} for models with growable variables, see `growable`. Arguments are {kind.__name__}'s."
    )
    is_of_keras = kind.__module__.split(".")[0] == "keras"
    made = type(f"Growable{kind.__name__}", (slots, kind), {"__module__": __name__, "__doc__": text})
    return keras.saving.register_keras_serializable("keras_dimgrow" if is_of_keras else kind.__module__)(made)


# Keras's own at import, so that a process that only imports the library can load them.
for _kind in tuple(vars(keras.optimizers).values()):
    _is_optimizer = isinstance(_kind, type) and issubclass(_kind, keras.optimizers.Optimizer)
    if _is_optimizer and _kind.__name__ not in {"Optimizer", "LossScaleOptimizer", *_REFUSED}:
        _growable_class(_kind)

GrowableAdam = _growable_class(keras.optimizers.Adam)


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

        owner = self._trainable_variables[index]
        rows, summed = (owner.sum_by_row if isinstance(owner, PoolVariable) else sum_by_row)(tf.cast(gradient, dtype))
        new_momentum = tf.gather(momentum, rows)
        new_momentum += (summed - new_momentum) * (1 - self.beta_1)
        new_velocity = tf.gather(velocity, rows)
        new_velocity += (tf.square(summed) - new_velocity) * (1 - self.beta_2)
        momentum.scatter_update(tf.IndexedSlices(new_momentum, rows))
        velocity.scatter_update(tf.IndexedSlices(new_velocity, rows))
        update = alpha * new_momentum / (tf.sqrt(new_velocity) + self.epsilon)
        # Rows are distinct: to read and write them takes less than half of what scatter_sub does.
        variable.scatter_update(tf.IndexedSlices(tf.gather(variable, rows) - update, rows))
