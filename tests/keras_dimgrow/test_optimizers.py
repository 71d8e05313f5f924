"""Optimizers: LazyAdam against Keras Adam and NumPy, and slots that grow with their variables."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_dimgrow import GrowableAdam, GrowableSlots, GrowableVariable, LazyAdam

V, D, LR = 6, 2, 0.1


def make_table(seed: int = 0, num_dims: int = D) -> GrowableVariable:
    table = GrowableVariable("zeros", (V, num_dims), (1,), name="table")
    table.assign(np.random.default_rng(seed).normal(size=(V, num_dims)).astype("float32"))
    return table


def sparse(ids, values) -> tf.IndexedSlices:
    return tf.IndexedSlices(tf.constant(values, tf.float32), tf.constant(ids), tf.constant([V, np.shape(values)[1]]))


def adam_rows(table, m, v, gradient, step, rows, b1=0.9, b2=0.999, epsilon=1e-7):
    """One step of Adam in float64 NumPy, for the given rows alone."""
    m[rows] = b1 * m[rows] + (1 - b1) * gradient[rows]
    v[rows] = b2 * v[rows] + (1 - b2) * gradient[rows] ** 2
    alpha = LR * np.sqrt(1 - b2**step) / (1 - b1**step)
    table[rows] -= alpha * m[rows] / (np.sqrt(v[rows]) + epsilon)


# LazyAdam.


@pytest.mark.parametrize("repeats", [1, 3])
def test_lazy_adam_equals_keras_adam_when_every_step_touches_every_row(repeats):
    rng, lazy_table, table = np.random.default_rng(1), make_table(), make_table()
    lazy, adam = LazyAdam(LR), keras.optimizers.Adam(LR)

    for _ in range(20):
        gradient = sparse(rng.permutation(np.arange(V).repeat(repeats)), rng.normal(size=(repeats * V, D)))
        lazy.apply([gradient], [lazy_table])
        # Dense: of a sparse gradient Keras Adam takes the square of each repeated id's part, not that of their sum.
        adam.apply([tf.convert_to_tensor(gradient)], [table])

    np.testing.assert_allclose(lazy_table.numpy(), table.numpy(), atol=1e-6)
    for lazy_slot, slot in zip(lazy.variables, adam.variables, strict=True):
        np.testing.assert_allclose(lazy_slot.numpy(), slot.numpy(), atol=1e-6)


def test_lazy_adam_equals_a_row_sparse_numpy_reference_with_repeated_ids():
    rng, table, lazy = np.random.default_rng(2), make_table(), LazyAdam(LR)
    expected = table.numpy().astype(np.float64)
    m, v = np.zeros((V, D)), np.zeros((V, D))

    for step in range(1, 31):
        ids = rng.integers(0, V, 4)
        values = rng.normal(size=(4, D))
        gradient = np.zeros((V, D))
        np.add.at(gradient, ids, values)
        adam_rows(expected, m, v, gradient, step, np.unique(ids))
        lazy.apply([sparse(ids, values)], [table])

    np.testing.assert_allclose(table.numpy(), expected, atol=1e-5)
    for name, moment in (("momentum", m), ("velocity", v)):
        np.testing.assert_allclose(dict(lazy.slots_of(table))[name].numpy(), moment, atol=1e-6)


def test_lazy_adam_leaves_rows_that_a_batch_did_not_touch_alone_moments_included():
    table, lazy = make_table(), LazyAdam(LR)
    lazy.apply([sparse(range(V), np.ones((V, D)))], [table])
    before = [variable.numpy() for variable in (table, *(slot for _, slot in lazy.slots_of(table)))]

    lazy.apply([sparse([1, 4], np.ones((2, D)))], [table])

    after = [variable.numpy() for variable in (table, *(slot for _, slot in lazy.slots_of(table)))]
    for old, new in zip(before, after, strict=True):
        np.testing.assert_array_equal(new[[0, 2, 3, 5]], old[[0, 2, 3, 5]])
        assert (new[[1, 4]] != old[[1, 4]]).all()


@pytest.mark.parametrize("options", [{}, {"amsgrad": True}], ids=["plain", "amsgrad"])
def test_lazy_adam_treats_dense_gradients_as_keras_adam_does(options):
    lazy_table, table = make_table(), make_table()
    lazy, adam = LazyAdam(LR, **options), keras.optimizers.Adam(LR, **options)

    for step in range(5):
        gradient = tf.constant(np.random.default_rng(step).normal(size=(V, D)), tf.float32)
        lazy.apply([gradient], [lazy_table])
        adam.apply([gradient], [table])

    np.testing.assert_array_equal(lazy_table.numpy(), table.numpy())


@pytest.mark.parametrize(
    "options",
    [
        {"amsgrad": True},
        {"clipnorm": 0.5},
        {"clipvalue": 0.2},
        {"global_clipnorm": 0.5},
        {"weight_decay": 0.1},
        {"use_ema": True, "ema_momentum": 0.5, "ema_overwrite_frequency": 3},
        {"gradient_accumulation_steps": 2},
        {"learning_rate": keras.optimizers.schedules.ExponentialDecay(LR, 2, 0.5)},
        {"beta_1": 0.5, "beta_2": 0.9, "epsilon": 1e-3},
    ],
    ids=lambda options: "-".join(options),
)
@pytest.mark.filterwarnings("ignore:Converting sparse IndexedSlices")
def test_options_of_adam_act_on_lazy_adam_as_on_keras_adam(options):
    lazy_table, table = make_table(), make_table()
    options = {"learning_rate": LR} | options
    lazy, adam = LazyAdam(**options), keras.optimizers.Adam(**options)

    for step in range(6):
        values = np.random.default_rng(step).normal(size=(V, D))
        lazy.apply([sparse(range(V), values)], [lazy_table])
        adam.apply([sparse(range(V), values)], [table])

    np.testing.assert_allclose(lazy_table.numpy(), table.numpy(), atol=1e-6)


# Growth of slots.


def train(optimizer, table, steps, ids=range(V)):
    """Applies one row-sparse gradient a step; the gradient of a column depends on step and column only."""
    for step in steps:
        values = [[np.sin(1.0 + step + 3 * column + i) for column in range(table.shape[1])] for i in range(len(ids))]
        optimizer.apply([sparse(ids, values)], [table])


def grow(optimizer, table, position):
    new = np.full((V, 1), 0.25, np.float32)
    table.insert(1, position, new)
    optimizer.insert_slots(table, 1, position, tf.constant(new))


OPTIONS = [
    {},
    {"amsgrad": True},
    {"clipvalue": 0.2},
    {"clipnorm": 0.5},
    {"weight_decay": 0.1},
    {"use_ema": True, "ema_momentum": 0.5},
    {"gradient_accumulation_steps": 2},
]


@pytest.mark.parametrize("kind", [GrowableAdam, LazyAdam])
@pytest.mark.parametrize("options", OPTIONS, ids=lambda options: "-".join(options) or "plain")
@pytest.mark.filterwarnings("ignore:Converting sparse IndexedSlices")
def test_after_growth_it_is_adam_with_zero_state_in_the_new_column(kind, options):
    # The reference has the wide table from the start. Its middle column is set back to fresh when the other one grows.
    table, wide = make_table(), make_table(num_dims=D + 1)
    growing, reference = kind(LR, **options), keras.optimizers.Adam(LR, **options)
    for optimizer, variable in ((growing, table), (reference, wide)):
        optimizer.build([variable])
    wide.assign(np.insert(table.numpy(), 1, 0.0, axis=1))

    steps = 4
    rng = np.random.default_rng(3)
    for step in range(2 * steps):
        if step == steps:
            grow(growing, table, position=1)
            wide.write_slice(1, 1, 0.25)
            for variable in reference.variables:
                if len(variable.shape) == 2:
                    values = variable.numpy()
                    values[:, 1] = 0.25 if "average" in variable.path else 0.0
                    variable.assign(values)
        values = rng.normal(size=(V, D + 1))
        if step < steps:
            values[:, 1] = 0.0  # so that norms are those of the narrow gradient
        growing.apply([sparse(range(V), values if step >= steps else np.delete(values, 1, 1))], [table])
        reference.apply([sparse(range(V), values)], [wide])

    np.testing.assert_allclose(table.numpy(), wide.numpy(), atol=1e-6)


@pytest.mark.parametrize("options", OPTIONS, ids=lambda options: "-".join(options) or "plain")
@pytest.mark.filterwarnings("ignore:Converting sparse IndexedSlices")
def test_every_slot_grows_at_the_place_of_the_new_column(options):
    table, optimizer = make_table(), GrowableAdam(LR, **options)
    train(optimizer, table, range(3))
    before = {name: slot.numpy() for name, slot in optimizer.slots_of(table)}

    grow(optimizer, table, position=1)

    assert before
    for name, slot in optimizer.slots_of(table):
        np.testing.assert_array_equal(slot.numpy(), np.insert(before[name], 1, 0.25 if name == "average" else 0, 1))


def test_resetting_a_column_clears_its_moments_and_sets_its_average_to_its_value():
    table, optimizer = make_table(), GrowableAdam(LR, use_ema=True)
    train(optimizer, table, range(3))
    before = {name: slot.numpy() for name, slot in optimizer.slots_of(table)}

    optimizer.reset_slots(table, 1, 0, 0.75)

    for name, slot in optimizer.slots_of(table):
        np.testing.assert_array_equal(slot.numpy()[:, 0], 0.75 if name == "average" else 0.0)
        np.testing.assert_array_equal(slot.numpy()[:, 1], before[name][:, 1])


def test_slots_of_names_the_slots_of_one_variable_only():
    table, bias, optimizer = make_table(), keras.Variable(np.zeros(3)), LazyAdam(LR, amsgrad=True, use_ema=True)
    optimizer.build([table, bias])

    assert sorted(name for name, _ in optimizer.slots_of(table)) == ["average", "momentum", "velocity", "velocity_hat"]
    assert optimizer.slots_of(bias) == []


def test_any_keras_optimizer_becomes_growable_by_the_mixin():
    class GrowableRMSprop(GrowableSlots, keras.optimizers.RMSprop):
        pass

    table, optimizer = make_table(), GrowableRMSprop(LR, momentum=0.9, centered=True)
    train(optimizer, table, range(2))

    grow(optimizer, table, position=2)
    train(optimizer, table, range(2))

    assert len(optimizer.slots_of(table)) == 3
    assert {tuple(slot.shape) for _, slot in optimizer.slots_of(table)} == {(V, D + 1)}


@pytest.mark.parametrize("kind", [GrowableAdam, LazyAdam])
def test_an_optimizer_in_a_traced_function_follows_growth_without_a_retrace(kind):
    table, optimizer, traces = make_table(), kind(LR), []
    optimizer.build([table])

    @tf.function
    def step(ids):
        traces.append(1)
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(tf.square(tf.gather(table.value, ids)))
        optimizer.apply([tape.gradient(loss, table.value)], [table])

    for _ in range(3):
        step(tf.constant([0, 2, 2]))
        grow(optimizer, table, position=0)

    assert len(traces) == 1
    assert tuple(table.shape) == (V, D + 3)


@pytest.mark.parametrize("kind", [GrowableAdam, LazyAdam])
def test_the_config_makes_an_equal_optimizer(kind):
    optimizer = kind(0.02, beta_1=0.8, weight_decay=0.1)

    copy = keras.optimizers.deserialize(keras.optimizers.serialize(optimizer))

    assert type(copy) is kind
    assert copy.get_config() == optimizer.get_config()
