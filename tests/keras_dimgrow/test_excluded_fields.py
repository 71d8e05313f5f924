"""Fields with one possible dimension (min_dim == max_dim): in the model, but not in the search."""

import numpy as np
import pytest
import tensorflow as tf

from keras_dimgrow import (
    DimGrowEmbedding,
    DimGrowPaperConfig,
    Field,
    GateConfig,
    LazyAdam,
    ModelConfig,
    build_model,
    search,
)

B, WIDTH = 16, 3
FIXED = (
    Field(name="a", vocabulary_size=5, min_dim=2, max_dim=2),
    Field(name="b", vocabulary_size=9, min_dim=1, max_dim=1),
)
MIXED = (FIXED[0], Field(name="c", vocabulary_size=4, max_dim=8), FIXED[1], Field(name="d", vocabulary_size=12))


def ids_of(fields, num_rows: int = B) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {field.name: rng.integers(0, field.vocabulary_size, num_rows) for field in fields}


def make_layer(fields, **options) -> DimGrowEmbedding:
    layer = DimGrowEmbedding(fields, WIDTH, stddev=1.0, seed=1, **options)
    layer.build(None)
    layer.theta.assign(np.random.default_rng(2).normal(size=layer.theta.shape))
    return layer


@pytest.mark.parametrize("adapter", ["joint", "per_field"])
def test_training_and_inference_give_the_bare_embedding_whatever_theta_is(adapter):
    layer, ids = make_layer(FIXED, adapter=adapter), ids_of(FIXED)
    tables, kernel = [table.numpy() for table in layer.tables], layer.kernel.numpy()
    parts = [tables[0][ids["a"]] @ kernel[:2], tables[1][ids["b"]] @ kernel[2:]]
    expected = sum(parts) if adapter == "joint" else np.stack(parts, axis=1)

    for training in (True, False):
        np.testing.assert_allclose(layer(ids, training=training), expected, rtol=1e-4, atol=1e-5)


def test_only_searched_fields_pay_a_penalty_and_weigh_in_the_mean_vocabulary():
    layer = make_layer(MIXED, gate=GateConfig(penalty=0.1, cost_exponent=1.0))
    g = 1 / (1 + np.exp(-5 * layer.theta.numpy()))

    layer(ids_of(MIXED), training=True)

    assert float(sum(layer.losses)) == pytest.approx(0.1 * (4 / 8 * g[2] / 2 + 12 / 8 * g[4] / 2), rel=1e-5)
    assert [gates.tolist() for gates in (layer.gates()[0], layer.gates()[2])] == [[1, 1], [1]]


def test_there_is_no_penalty_where_nothing_is_searched():
    layer = make_layer(FIXED)

    layer(ids_of(FIXED), training=True)

    assert float(sum(layer.losses)) == 0


def test_training_never_moves_theta_of_an_excluded_field_nor_does_growth_of_others():
    layer, ids = DimGrowEmbedding(MIXED, WIDTH, seed=1, name="embedding"), ids_of(MIXED)
    model = build_model(layer, ModelConfig(adapter_width=WIDTH, hidden_units=(4,)), seed=0)
    model.compile(LazyAdam(0.1), "binary_crossentropy")

    for _ in range(2):
        model.train_on_batch(ids, np.arange(B) % 2)
        layer.grow(1, model.optimizer)

    theta = np.split(layer.theta.numpy(), np.cumsum(layer.allocated_dims)[:-1])
    assert layer.allocated_dims == [2, 3, 1, 1]
    assert [values.tolist() for values in (theta[0], theta[2])] == [[0, 0], [0]]
    assert theta[3][0] != 0
    assert layer.plan().dimensions.items() >= {"a": 2, "b": 1}.items()


def test_weight_decay_of_theta_changes_no_output():
    layer, ids = make_layer(FIXED), ids_of(FIXED)
    expected = layer(ids)

    layer.theta.assign(0.5 * layer.theta.numpy())

    np.testing.assert_array_equal(layer(ids), expected)


def test_gates_of_excluded_fields_survive_growth_and_drops_of_others_without_a_retrace():
    layer, ids, traces = make_layer(MIXED), ids_of(MIXED), []

    @tf.function
    def forward(inputs):
        traces.append(1)
        return layer(inputs, training=True)

    for change in (lambda: None, lambda: layer.grow([1, 3]), lambda: layer.drop(1), layer.settle):
        change()
        assert np.isfinite(forward(ids)).all()
        assert [layer.gates()[table].tolist() for table in (0, 2)] == [[1, 1], [1]]

    assert len(traces) == 1


@pytest.mark.parametrize("fields", [FIXED, MIXED], ids=["all", "some"])
def test_a_search_leaves_their_dimensions_alone(fields):
    ids = ids_of(fields, 512)
    labels = (ids["a"] > 2).astype("float32")
    data = tf.data.Dataset.from_tensor_slices((ids, labels)).batch(128)
    config = DimGrowPaperConfig(max_steps=40, check_every=4, checkpoint_every=8, patience_checks=4, learning_rate=0.05)

    result = search(
        fields,
        data,
        method="dimgrow_paper",
        config=config,
        model_config=ModelConfig(adapter_width=4, hidden_units=(4,)),
    )

    assert {(record["dimensions"]["a"], record["dimensions"]["b"]) for record in result.trajectory} == {(2, 1)}
    assert result.plan.dimensions.items() >= {"a": 2, "b": 1}.items()
    assert result.has_converged or fields is MIXED
