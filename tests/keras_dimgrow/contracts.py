"""What every layer of the library keeps to, as functions that a test calls with a way to make the layer.

`make(**options)` gives a layer that is not built; `inputs` has more than one row.
"""

import json
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

Make = Callable[..., keras.layers.Layer]


def rows(inputs: Any, num_rows: int) -> Any:
    """So many rows of `inputs`, its own rows repeated."""
    return tf.nest.map_structure(lambda a: np.resize(a, (num_rows, *a.shape[1:])), inputs)


def symbolic(inputs: Any) -> Any:
    """`keras.Input`s for `inputs`, named by their keys."""

    def make_input(array, name=None):
        return keras.Input(array.shape[1:], dtype=str(array.dtype), name=name)

    if isinstance(inputs, dict):
        return {name: make_input(array, name) for name, array in inputs.items()}
    return make_input(inputs)


def shapes(inputs: Any) -> Any:
    if isinstance(inputs, dict):
        return {name: (None, *array.shape[1:]) for name, array in inputs.items()}
    return (None, *inputs.shape[1:])


def check_shape_and_spec(make: Make, inputs: Any, output_dtype: str | None = None) -> None:
    """The shape that is promised, the one of a symbolic call and the real one are the same, for any batch size."""
    layer = make()
    spec = layer(symbolic(inputs))
    outputs = layer(inputs)

    assert tuple(spec.shape) == tuple(layer.compute_output_shape(shapes(inputs))) == (None, *outputs.shape[1:])
    assert spec.dtype == keras.backend.standardize_dtype(outputs.dtype)
    assert spec.dtype == (output_dtype or layer.compute_dtype)
    for training in (True, False):
        assert layer(inputs, training=training).shape == outputs.shape
        assert layer(rows(inputs, 3), training=training).shape == (3, *outputs.shape[1:])


def check_build_makes_all_variables(make: Make, inputs: Any) -> None:
    """Calls add no variable to those of `build`, whose paths are unique and begin with the layer's name."""
    layer = make()
    layer.build(shapes(inputs))
    paths = [variable.path for variable in layer.variables]

    layer(inputs, training=True)

    assert [variable.path for variable in layer.variables] == paths
    assert len(set(paths)) == len(paths) > 0


def check_dtype_policies(make: Make, inputs: Any, output_dtype: str | None = None) -> None:
    """Under mixed precision variables stay float32, outputs have the compute dtype and are near those of float32."""
    expected = make()(inputs).numpy()
    for policy in ("mixed_float16", "mixed_bfloat16"):
        layer = make(dtype=policy)
        outputs = layer(inputs)
        assert outputs.dtype == (output_dtype or layer.compute_dtype)
        assert {variable.dtype for variable in layer.trainable_variables} == {"float32"}
        assert all(loss.dtype == "float32" for loss in layer.losses)
        np.testing.assert_allclose(tf.cast(outputs, tf.float32), expected, atol=0.06 * max(1, np.abs(expected).max()))
    assert make(dtype="float64")(inputs).dtype == (output_dtype or "float64")


def check_config(make: Make, inputs: Any) -> None:
    """A config goes through JSON and Keras's serialisation, and makes a layer with the same initial outputs."""
    layer = make()
    config = layer.get_config()

    copy = type(layer).from_config(json.loads(json.dumps(config)))
    other = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(layer))

    assert json.dumps(copy.get_config()) == json.dumps(other.get_config()) == json.dumps(config)
    np.testing.assert_array_equal(copy(inputs), layer(inputs))


def check_file(make: Make, inputs: Any, path: str) -> None:
    """A functional model with the layer, trained for a step, comes back from a .keras file with equal outputs."""
    layer, given = make(), symbolic(inputs)
    model = keras.Model(given, layer(given))
    rng = np.random.default_rng(0)
    for variable in layer.trainable_variables:
        variable.assign(rng.normal(size=variable.shape))
    layer(inputs, training=True)
    model.save(path)

    loaded = keras.saving.load_model(path)

    np.testing.assert_array_equal(loaded(inputs), model(inputs))
    for variable, other in zip(model.variables, loaded.variables, strict=True):
        np.testing.assert_array_equal(variable.numpy(), other.numpy())


def check_masks(make: Make, inputs: Any) -> None:
    """A mask on the inputs changes no output, and goes on only from a layer that says that it supports masks."""
    layer = make()
    expected = layer(inputs)
    masked = tf.nest.map_structure(tf.constant, inputs)
    mask = tf.constant([True, False] * (len(expected) // 2))
    for tensor in tf.nest.flatten(masked):
        tensor._keras_mask = mask

    outputs = layer(masked)

    np.testing.assert_array_equal(outputs, expected)
    assert (getattr(outputs, "_keras_mask", None) is not None) == layer.supports_masking


def check_gradients(make: Make, inputs: Any) -> None:
    """In training, every trainable variable has a gradient, finite and somewhere not 0; no other variable has one."""
    layer = make()
    layer.build(shapes(inputs))
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(tf.sin(tf.cast(layer(inputs, training=True), tf.float32))) + sum(layer.losses)
    variables = layer.trainable_variables

    for variable, gradient in zip(variables, tape.gradient(loss, [v.value for v in variables]), strict=True):
        assert gradient is not None, variable.path
        values = tf.convert_to_tensor(gradient).numpy()
        assert np.isfinite(values).all(), variable.path
        assert np.abs(values).max() > 0, variable.path


def check_tracing(make: Make, inputs: Any) -> None:
    """One trace serves all batch sizes."""
    layer, traces = make(), []
    layer.build(shapes(inputs))
    signature = tf.nest.map_structure(lambda a: tf.TensorSpec([None, *a.shape[1:]], a.dtype), inputs)

    @tf.function(input_signature=[signature])
    def forward(x):
        traces.append(1)
        return layer(x, training=True)

    for num_rows in (2, 7, 1024):
        assert len(forward(rows(inputs, num_rows))) == num_rows
    assert len(traces) == 1
