"""PlannedTables takes ids as the Keras 3 layers do: shared tables, many values a row, weights, missing values."""

import numpy as np
import pytest
import tensorflow as tf
import tf_keras

from keras_dimgrow import EmbeddingPlan, PlannedEmbedding, PlannedField
from keras_dimgrow.tfrs import PlannedTables, kernels_from, tables_from

V, B = 6, 32
FIELDS = (
    PlannedField(name="item", vocabulary_size=V, table="items", dimension=2),
    PlannedField(name="city", vocabulary_size=4, missing_id=0, dimension=1),
    PlannedField(
        name="history", vocabulary_size=V, table="items", combiner="mean", missing_id=-1, weights="scores", dimension=2
    ),
    PlannedField(name="tags", vocabulary_size=5, combiner="sqrtn", missing_id=0, dimension=2),
)
PLAN = EmbeddingPlan(FIELDS)


@pytest.fixture(scope="module")
def inputs() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {
        "item": rng.integers(0, V, B),
        "city": rng.integers(0, 4, B),
        "history": rng.integers(-1, V, (B, 3)),
        "scores": rng.uniform(0.1, 2, (B, 3)).astype("float32"),
        "tags": rng.integers(0, 5, (B, 2)).astype("uint8"),
    }


@pytest.fixture(params=["joint", "per_field"])
def layers(request, inputs):
    """A Keras 3 layer whose values all differ, and a Keras 2 layer that took them over."""
    embedding = PlannedEmbedding(PLAN, 4, request.param, stddev=1.0, seed=1)
    embedding(inputs)
    tables = PlannedTables(PLAN, 4, request.param, name="tables")
    return embedding, tables.load(tables_from(embedding), kernels_from(embedding))


def test_outputs_are_those_of_the_keras_3_layer(layers, inputs):
    embedding, tables = layers

    np.testing.assert_allclose(tables(inputs), embedding(inputs), atol=1e-5)


def test_a_shared_table_is_one_layer_with_one_variable(layers):
    _, tables = layers

    assert tables.tables["item"] is tables.tables["history"]
    assert len(tables.trainable_variables) == 3 + 1
    assert len({variable.ref() for variable in tables.variables}) == 3 + 1


def test_gradients_of_both_fields_meet_in_the_shared_table_and_missing_values_get_none(layers, inputs):
    _, tables = layers

    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(tables(inputs))
    gradients = tape.gradient(loss, [tables.tables[name].embeddings for name in ("history", "city", "tags")])

    assert all(isinstance(gradient, tf.IndexedSlices) for gradient in gradients)
    assert len(gradients[0].indices) == B + (inputs["history"] >= 0).sum()
    assert 0 not in gradients[1].indices.numpy()
    assert 0 not in gradients[2].indices.numpy()


def test_a_functional_model_trains_and_comes_back_from_a_file(layers, inputs, tmp_path):
    _, tables = layers
    keras_inputs = {
        name: tf_keras.Input([None] * (values.ndim - 1), dtype=values.dtype, name=name)
        for name, values in inputs.items()
    }
    hidden = tf.reshape(tables(keras_inputs), [-1, 4 if tables.adapter == "joint" else 16])
    model = tf_keras.Model(keras_inputs, tf_keras.layers.Dense(1)(hidden))
    model.compile("adam", "mse")
    model.fit(inputs, np.arange(B, dtype="float32"), verbose=0)
    model.save(tmp_path / "model.keras")

    loaded = tf_keras.models.load_model(tmp_path / "model.keras")

    np.testing.assert_allclose(loaded(inputs), model(inputs), rtol=1e-6)


def test_a_tower_may_have_a_shared_table_alone(inputs):
    tower = PlannedTables(PLAN, fields=["history"])

    assert tower({name: inputs[name] for name in ("history", "scores")}).shape == (B, 2)


def test_weights_are_combined_in_float32_under_mixed_precision():
    field = PlannedField(name="h", vocabulary_size=V, combiner="sum", weights="w", dimension=2)
    layer = PlannedTables(EmbeddingPlan((field,)), dtype="mixed_float16")
    layer.load({"h": np.full((V, 2), 1e-3, "float32")})

    outputs = layer({"h": np.array([[1, 2]]), "w": np.array([[70001.0, -70000.0]], "float32")})

    assert outputs.dtype == tf.float16
    np.testing.assert_allclose(outputs, [[1e-3, 1e-3]], rtol=0.1)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"item": np.full(B, V)}, r"tables, field 'item': ids must be in 0 \.\. 5; received 6 in row 0"),
        ({"history": np.zeros(B, int)}, r"field 'history': with a combiner, ids must have shape \[B, L\]"),
        ({"tags": np.zeros((B, 2))}, "field 'tags': ids must be integers; received float64"),
        ({"scores": np.zeros((B, 2))}, r"field 'history': weights have shape \(32, 2\), ids \(32, 3\)"),
    ],
)
def test_inputs_that_do_not_fit_are_named(inputs, changes, message):
    with pytest.raises(ValueError, match=message):
        PlannedTables(PLAN, name="tables")(inputs | changes)
