"""GrowableVariable: grows in place, keeps traces valid, and survives saving."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_dimgrow import DimGrowEmbedding, Field, GrowableVariable, WideDeep


def make_variable(shape=(3, 2), axes=(1,)) -> GrowableVariable:
    variable = GrowableVariable("zeros", shape, axes, name="table")
    variable.assign(np.arange(np.prod(shape), dtype="float32").reshape(shape))
    return variable


@pytest.mark.parametrize("position", [0, 1, 2])
@pytest.mark.parametrize("axis", [0, 1])
def test_insert_puts_slices_before_a_position_and_moves_nothing_else(axis, position):
    variable = make_variable((2, 2), axes=(0, 1))
    before = variable.numpy()

    variable.insert(axis, position, np.full((1, 2) if axis == 0 else (2, 1), 9.0))

    np.testing.assert_array_equal(variable.numpy(), np.insert(before, position, 9.0, axis))
    assert tuple(variable.shape) == np.insert(before, position, 9.0, axis).shape


def test_several_slices_can_be_inserted_at_once():
    variable = make_variable()

    variable.insert(1, 1, np.full((3, 4), 9.0))

    assert tuple(variable.shape) == (3, 6)
    np.testing.assert_array_equal(variable.numpy()[:, [0, 5]], make_variable().numpy())


def test_vectors_grow_too():
    variable = make_variable((3,), axes=(0,))

    variable.insert(0, 1, [7.0])

    assert variable.numpy().tolist() == [0, 7, 1, 2]


def test_write_slice_writes_one_slice():
    variable = make_variable()

    variable.write_slice(1, 1, 5.0)

    assert variable.numpy().tolist() == [[0, 5], [2, 5], [4, 5]]


def test_a_fixed_axis_does_not_grow():
    with pytest.raises(ValueError, match=r"table: axis 0 is fixed; growable axes are \(1,\)"):
        make_variable().insert(0, 0, np.zeros((1, 2)))


def test_a_wider_value_can_be_assigned():
    variable = make_variable()

    variable.assign(np.ones((3, 5)))

    assert tuple(variable.shape) == (3, 5)


@pytest.mark.parametrize("shape", [(4, 2), (3,), (3, 2, 1)])
def test_a_value_that_does_not_fit_the_fixed_axes_is_refused(shape):
    with pytest.raises(ValueError, match=r"table: a value of shape .* does not fit \(3, None\)"):
        make_variable().assign(np.zeros(shape))


def test_a_traced_function_sees_the_growth_without_a_retrace():
    variable, traces = make_variable(), []

    @tf.function
    def row_sums():
        traces.append(variable.shape)
        return tf.reduce_sum(tf.gather(variable.value, [0, 2]), 1)

    first = row_sums().numpy()
    variable.insert(1, 2, np.full((3, 1), 10.0))

    np.testing.assert_array_equal(row_sums(), first + 10)
    assert [shape.as_list() for shape in traces] == [[3, None]]


def test_assigning_inside_a_function_may_change_the_width():
    variable = make_variable()

    tf.function(lambda: variable.assign(tf.concat([variable.value, variable.value], 1)))()

    assert tuple(variable.shape) == (3, 4)


def test_gradients_by_a_gather_are_row_sparse_before_and_after_growth():
    variable = make_variable()

    for _ in range(2):
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(tf.gather(variable.value, [1, 1]))
        gradient = tape.gradient(loss, variable.value)
        assert isinstance(gradient, tf.IndexedSlices)
        np.testing.assert_array_equal(tf.convert_to_tensor(gradient)[1], np.full(variable.shape[1], 2.0))
        variable.insert(1, 0, np.zeros((3, 1)))


def test_mixed_precision_does_not_cast_the_table():
    class Table(keras.layers.Layer):
        def build(self, input_shape):
            self.table = make_variable()

        def call(self, inputs):
            return inputs, self.table.value.dtype

    assert Table(dtype="mixed_float16")(np.ones(2))[1] == tf.float32


# Saving: a checkpoint decides how wide a variable is.


def make_model() -> keras.Model:
    fields = [Field(name="a", vocabulary_size=5), Field(name="b", vocabulary_size=7)]
    inputs = {field.name: keras.Input((), dtype="int64", name=field.name) for field in fields}
    embedded = DimGrowEmbedding(fields, 3, seed=1, name="embedding")(inputs)
    return keras.Model(inputs, WideDeep((4, 2), seed=1)(embedded))


def grown_model() -> keras.Model:
    model = make_model()
    layer = model.get_layer("embedding")
    for index in (0, 1, 1):
        layer.grow(index)
    layer.drop(1)
    for variable in model.trainable_variables:
        variable.assign(variable + 1.0)
    return model


def assert_same(first: keras.Model, second: keras.Model):
    assert first.get_layer("embedding").allocated_dims == second.get_layer("embedding").allocated_dims
    for one, other in zip(first.variables, second.variables, strict=True):
        np.testing.assert_array_equal(one.numpy(), other.numpy())


def test_a_keras_file_restores_what_has_grown(tmp_path):
    model = grown_model()
    model.save(tmp_path / "model.keras")

    assert_same(keras.saving.load_model(tmp_path / "model.keras"), model)


def test_a_weights_file_restores_what_has_grown_into_a_model_that_has_not(tmp_path):
    model, other = grown_model(), make_model()
    model.save_weights(tmp_path / "model.weights.h5")

    other.load_weights(tmp_path / "model.weights.h5")

    assert_same(other, model)


@pytest.mark.parametrize("is_narrower", [True, False])
def test_a_tensorflow_checkpoint_restores_what_has_grown(tmp_path, is_narrower):
    model, other = grown_model(), make_model()
    if not is_narrower:
        for _ in range(4):
            other.get_layer("embedding").grow(0)
    path = tf.train.Checkpoint(model=model).save(str(tmp_path / "checkpoint"))

    tf.train.Checkpoint(model=other).restore(path).assert_consumed()

    assert_same(other, model)
