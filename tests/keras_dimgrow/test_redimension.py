"""A trained layer with the dimensions of another plan."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_dimgrow import (
    EmbeddingPlan,
    Field,
    ModelConfig,
    PlannedEmbedding,
    TrainingConfig,
    build_model,
    evaluate,
    retrain,
    transfer_layer,
    transfer_model,
)

FIELDS = (
    Field(name="city", vocabulary_size=9),
    Field(name="home", vocabulary_size=6, table="place"),
    Field(name="hour", vocabulary_size=4),
    Field(name="work", vocabulary_size=6, table="place"),
)
DIMS = {"city": 3, "home": 4, "hour": 0, "work": 4}
IDS = {field.name: np.arange(36) % field.vocabulary_size for field in FIELDS}


def plan_of(fields=FIELDS, **dims) -> EmbeddingPlan:
    return EmbeddingPlan.from_dimensions(fields, DIMS | dims)


def make_layer(adapter: str = "joint", width: int = 8, **options) -> PlannedEmbedding:
    layer = PlannedEmbedding(plan_of(), width, adapter, stddev=1.0, seed=0, name="embedding", **options)
    layer.build(None)
    return layer


def computed_by_field(layer: PlannedEmbedding) -> dict[str, np.ndarray]:
    """E W of each field: all that the layer's output depends on."""
    tables, kernels = layer.tables_by_field(), layer.kernels_by_field()
    return {name: tables[name] @ kernels[name] for name in tables}


@pytest.mark.parametrize("adapter", ["joint", "per_field"])
def test_more_dimensions_leave_the_output_as_it_is_and_learn(adapter):
    layer = make_layer(adapter, keep_removed=True)

    wider = transfer_layer(layer, plan_of(city=5, home=6, work=6, hour=2))

    np.testing.assert_allclose(wider(IDS), layer(IDS), atol=1e-6)
    np.testing.assert_array_equal(wider.tables_by_field()["city"][:, :3], layer.tables_by_field()["city"])
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(tf.square(wider(IDS)))
    gradient = tf.convert_to_tensor(tape.gradient(loss, wider.tables["5"].value))
    assert tf.reduce_all(tf.reduce_any(gradient[:, 3:] != 0, axis=0))


def test_fewer_dimensions_give_the_nearest_matrix_of_that_rank():
    layer = make_layer()

    narrower = transfer_layer(layer, plan_of(city=1))

    now, before = computed_by_field(narrower)["city"], computed_by_field(layer)["city"]
    u, s, vt = np.linalg.svd(before, full_matrices=False)
    np.testing.assert_allclose(now, s[0] * np.outer(u[:, 0], vt[0]), atol=1e-4)
    np.testing.assert_allclose(np.linalg.norm(narrower.kernels_by_field()["city"], axis=1), 1, rtol=1e-5)


def test_fields_that_share_a_table_are_approximated_together():
    layer = make_layer()

    narrower = transfer_layer(layer, plan_of(home=2, work=2))

    now, before = computed_by_field(narrower), computed_by_field(layer)
    joined = np.hstack([before["home"], before["work"]])
    u, s, vt = np.linalg.svd(joined, full_matrices=False)
    nearest = (u[:, :2] * s[:2]) @ vt[:2]
    np.testing.assert_allclose(np.hstack([now["home"], now["work"]]), nearest, atol=1e-4)
    np.testing.assert_array_equal(narrower.tables_by_field()["home"], narrower.tables_by_field()["work"])


def test_dimensions_that_the_adapter_cannot_use_are_free_to_learn():
    layer = make_layer(width=1)  # E W of a city has rank 1, whatever its dimension

    narrower = transfer_layer(layer, plan_of(city=2))

    np.testing.assert_allclose(computed_by_field(narrower)["city"], computed_by_field(layer)["city"], atol=1e-5)
    assert narrower.kernels_by_field()["city"].all()


def test_fields_come_and_go():
    layer = make_layer()
    fields = (*FIELDS[1:], Field(name="device", vocabulary_size=5))

    changed = transfer_layer(layer, EmbeddingPlan.from_dimensions(fields, DIMS | {"device": 2}))

    assert list(changed.plan.dimensions) == ["home", "hour", "work", "device"]
    np.testing.assert_array_equal(changed.tables_by_field()["home"], layer.tables_by_field()["home"])
    assert changed.tables_by_field()["device"].all()


def test_a_field_that_is_removed_keeps_its_place_in_the_output_per_field():
    layer = make_layer("per_field", keep_removed=True)

    changed = transfer_layer(layer, plan_of(city=0))

    assert changed.compute_output_shape((None, 4)) == layer.compute_output_shape((None, 4))
    np.testing.assert_array_equal(changed(IDS)[:, 0], np.zeros((36, 8)))
    np.testing.assert_allclose(changed(IDS)[:, 1:], layer(IDS)[:, 1:], atol=1e-6)


@pytest.mark.parametrize(
    ("plan", "message"),
    [
        (
            plan_of(hour=2),
            r"a place in its output for each of the fields \['city', 'home', 'work'\].*Train from scratch",
        ),
        (
            plan_of((Field(name="city", vocabulary_size=8), *FIELDS[1:])),
            r"'city': vocabulary_size is 9 in the trained model and 8 in the plan. Call grow_vocabulary first",
        ),
        (
            plan_of((Field(name="city", vocabulary_size=9, combiner="sum"), *FIELDS[1:])),
            r"'city': combiner is None in the trained model and 'sum' in the plan. Train from scratch",
        ),
    ],
)
def test_plans_that_do_not_fit_are_refused(plan, message):
    with pytest.raises(ValueError, match=message):
        transfer_layer(make_layer("per_field"), plan)


def test_retraining_goes_on_from_an_earlier_retraining_with_other_dimensions():
    rng = np.random.default_rng(0)
    ids = {field.name: rng.integers(0, field.vocabulary_size, 512) for field in FIELDS}
    labels = (ids["city"] % 2).astype("float32")
    data = tf.data.Dataset.from_tensor_slices((ids, labels)).batch(64)
    sizes = ModelConfig(adapter_width=8, hidden_units=(8,))
    first = retrain(plan_of(), data, data, config=TrainingConfig(max_epochs=6, learning_rate=0.02), model_config=sizes)

    still = TrainingConfig(max_epochs=1, learning_rate=1e-9)
    second = retrain(plan_of(city=4, home=5, work=5), data, data, config=still, transfer_from=first.model)

    assert first.validation.log_loss < 0.5
    assert second.validation.log_loss == pytest.approx(first.validation.log_loss, abs=1e-4)
    assert evaluate(first.model, data).log_loss == pytest.approx(first.validation.log_loss)


def test_a_plan_is_for_a_ranking_model():
    model = build_model(make_layer(), ModelConfig(adapter_width=8, hidden_units=(4,)), 0)
    sequential = keras.Sequential([keras.Input((4,), dtype="int32"), make_layer(), keras.layers.Dense(1)])

    assert transfer_model(model, plan_of(city=2)).embedding.plan.dimensions["city"] == 2
    with pytest.raises(ValueError, match=r"received Sequential .*, and a plan.*transfer_layer\(embedding\)"):
        transfer_model(sequential, plan_of(city=2))
