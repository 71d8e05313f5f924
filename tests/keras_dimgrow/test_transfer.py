"""From a search model to a model with its plan: the same predictions, and the start of fine-tuning."""

import dataclasses

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_dimgrow import (
    DimGrowEmbedding,
    DimGrowPaperConfig,
    EmbeddingPlan,
    Field,
    GateConfig,
    GrowthConfig,
    LazyAdam,
    ModelConfig,
    PlannedEmbedding,
    SearchResult,
    TrainingConfig,
    evaluate,
    retrain,
    search,
    transfer_layer,
    transfer_model,
)
from keras_dimgrow.models import BACKBONES

SIZE = 8
FIELDS = (
    Field(name="left", vocabulary_size=SIZE, table="shared"),
    Field(name="noise", vocabulary_size=8 * SIZE),
    Field(name="history", vocabulary_size=SIZE, table="shared", combiner="mean", missing_id=-1, weights="scores"),
    Field(name="fixed", vocabulary_size=5, min_dim=2, max_dim=2),
    Field(name="right", vocabulary_size=SIZE, min_dim=2),
)
# Dimensions come and go within some tens of steps, and removed fields stay removed.
LIVELY = DimGrowPaperConfig(
    max_steps=32,
    check_every=4,
    checkpoint_every=32,
    learning_rate=3e-2,
    gate=GateConfig(penalty=2e-3),
    growth=GrowthConfig(grow_threshold=0.5, shrink_threshold=0.49, backoff_checks=1, max_revivals=0),
)


@pytest.fixture(scope="module")
def rows(planted) -> tuple[dict[str, np.ndarray], np.ndarray]:
    rng = np.random.default_rng(4)
    num_rows = len(planted.labels)
    histories = {"history": rng.integers(-1, SIZE, (num_rows, 3)), "fixed": rng.integers(0, 5, num_rows)}
    scores = rng.uniform(0.1, 2, (num_rows, 3)).astype("float32")
    return planted.ids | histories | {"scores": scores}, planted.labels


@pytest.fixture(scope="module")
def data(rows) -> tf.data.Dataset:
    return tf.data.Dataset.from_tensor_slices(rows).batch(256)  # in one order: a shuffle would follow the global seed


@pytest.fixture(scope="module")
def find(data):
    """Searches with a backbone, once for all tests that ask for it."""
    found: dict[str, SearchResult] = {}

    def run(backbone: str) -> SearchResult:
        if backbone not in found:
            config = ModelConfig(backbone=backbone, adapter_width=4, hidden_units=(4,))
            found[backbone] = search(FIELDS, data, method="dimgrow_paper", config=LIVELY, model_config=config, seed=1)
        return found[backbone]

    return run


def predictions(model, rows) -> np.ndarray:
    return model.predict_on_batch(rows[0])


def events(result: SearchResult) -> set[str]:
    return {event["action"] for record in result.trajectory for event in record["events"]}


# The model of a search.


@pytest.mark.parametrize("backbone", BACKBONES)
def test_a_transferred_model_predicts_what_the_search_model_predicts(find, rows, backbone):
    result = find(backbone)
    weights = [variable.numpy() for variable in result.model.variables]

    model = transfer_model(result.model)

    assert "drop" in events(result)
    assert 0 in result.plan.dimensions.values()
    assert model.embedding.plan == result.plan
    assert result.model.embedding.dimensions() == result.plan.dimensions
    expected = predictions(result.model, rows)
    np.testing.assert_allclose(predictions(model, rows), expected, atol=1e-5)
    assert np.ptp(expected) > 1e-3
    for variable, before in zip(result.model.variables, weights, strict=True):
        np.testing.assert_array_equal(variable.numpy(), before)
    assert not model.compiled
    assert {id(v) for v in model.variables}.isdisjoint(id(v) for v in result.model.variables)


@pytest.mark.parametrize("backbone", ["wide_deep", "fm"])
def test_a_transferred_model_comes_back_from_a_file(find, rows, backbone, tmp_path):
    model = transfer_model(find(backbone).model)
    model.save(tmp_path / "model.keras")

    loaded = keras.saving.load_model(tmp_path / "model.keras")

    np.testing.assert_array_equal(predictions(loaded, rows), predictions(model, rows))


@pytest.mark.parametrize("backbone", ["wide_deep", "deepfm"])
def test_a_transferred_model_has_the_parameters_of_the_plan(find, backbone):
    result = find(backbone)

    embedding = transfer_model(result.model).embedding

    assert sum(int(np.prod(table.shape)) for table in embedding.tables.values()) == result.plan.parameters


def test_fine_tuning_starts_where_the_search_ended_and_improves(find, data, rows):
    result = find("dcn")
    start = evaluate(result.model, data).log_loss
    untouched = TrainingConfig(max_epochs=1, learning_rate=1e-9)

    same, tuned = (
        retrain(result.plan, data, data, config=config, transfer_from=result.model)
        for config in (untouched, TrainingConfig(max_epochs=8, patience_epochs=8, learning_rate=3e-2))
    )

    assert same.validation.log_loss == pytest.approx(start, abs=1e-5)
    assert tuned.validation.log_loss < start - 0.002


def test_fine_tuning_with_more_dimensions_starts_where_the_search_ended(find, data):
    result = find("dcn")
    start = evaluate(result.model, data).log_loss
    more = {name: dim + 2 for name, dim in result.plan.dimensions.items()}

    tuned = retrain(
        EmbeddingPlan.from_dimensions(FIELDS, more),
        data,
        data,
        config=TrainingConfig(max_epochs=1, learning_rate=1e-9),
        transfer_from=result.model,
    )

    assert tuned.model.embedding.plan.dimensions == more
    assert tuned.validation.log_loss == pytest.approx(start, abs=1e-5)


def test_a_plan_with_other_vocabularies_is_refused_and_the_cure_is_named(find, data):
    result = find("dcn")
    fields = [dataclasses.replace(field, vocabulary_size=field.vocabulary_size + 1) for field in FIELDS]

    with pytest.raises(ValueError, match=r"'left': vocabulary_size is 8 in the trained model and 9 .*grow_vocabulary"):
        retrain(EmbeddingPlan.uniform(fields, 7), data, transfer_from=result.model)


def test_a_model_that_no_search_gave_is_refused_for_retraining(find, data):
    with pytest.raises(ValueError, match=r"SearchResult or a TrainingResult; received a Sequential"):
        retrain(find("dcn").plan, data, transfer_from=keras.Sequential())


# Layers and models of one's own.

PLAIN = (Field(name="a", vocabulary_size=5), Field(name="b", vocabulary_size=9), Field(name="c", vocabulary_size=4))
IDS = np.random.default_rng(0).integers(0, 4, (16, 3))


def settled_layer(adapter: str = "joint", **options) -> DimGrowEmbedding:
    """Dimensions 2 of 3, 0 of 1, and 2 of 2, whose every value differs."""
    layer = DimGrowEmbedding(PLAIN, 4, adapter, stddev=1.0, seed=1, name="embedding", **options)
    layer.build(None)
    layer.grow([0, 2])
    layer.grow(0)
    layer.theta.assign([0.3, -0.2, 0.1, -0.4, 0.2, 0.5])
    layer.settle()
    return layer


@pytest.mark.parametrize("adapter", ["joint", "per_field"])
def test_a_transferred_layer_gives_the_same_output_and_is_called_the_same(adapter):
    layer = settled_layer(adapter, check_ids=True)

    planned = transfer_layer(layer)

    assert isinstance(planned, PlannedEmbedding)
    assert planned.plan.dimensions == {"a": 2, "b": 0, "c": 2}
    np.testing.assert_allclose(planned(IDS), layer(IDS, training=False), rtol=1e-5, atol=1e-6)
    assert planned.compute_output_shape((None, 3)) == layer.compute_output_shape((None, 3))
    assert (planned.name, planned.check_ids) == ("embedding", True)


def test_a_layer_that_was_not_settled_is_transferred_without_what_its_plan_leaves_out():
    layer = settled_layer()
    layer.grow(1)  # its gate is one half: not above it
    expected = layer(IDS, training=False) - 0.5 * layer.tables[1].numpy()[IDS[:, 1]] @ layer.kernel.numpy()[3:4]

    np.testing.assert_allclose(transfer_layer(layer)(IDS), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_a_layer_keeps_its_dtype_policy(policy):
    layer = settled_layer(dtype=policy)

    planned = transfer_layer(layer)

    assert planned.dtype_policy == layer.dtype_policy
    outputs, expected = planned(IDS), layer(IDS, training=False)
    assert outputs.dtype == expected.dtype
    np.testing.assert_allclose(tf.cast(outputs, "float32"), tf.cast(expected, "float32"), atol=0.1)


def functional(layer) -> keras.Model:
    inputs = {field.name: keras.Input((), dtype="int32", name=field.name) for field in PLAIN}
    x = keras.layers.BatchNormalization()(layer(inputs))
    x = keras.layers.Dropout(0.5)(x) + 1.0
    return keras.Model(inputs, keras.layers.Dense(1, "sigmoid")(x), name="mine")


def nested(layer) -> keras.Model:
    inputs = {field.name: keras.Input((), dtype="int32", name=field.name) for field in PLAIN}
    return keras.Model(inputs, keras.layers.Dense(1)(functional(layer)(inputs)))


def sequential(layer) -> keras.Model:
    return keras.Sequential([keras.Input((3,), dtype="int32"), layer, keras.layers.Dense(1, "sigmoid")])


@pytest.mark.parametrize("is_compiled", [False, True])
@pytest.mark.parametrize("make", [functional, nested, sequential])
def test_functional_nested_and_sequential_models_are_transferred(make, is_compiled):
    model, inputs = make(settled_layer()), IDS
    if make is not sequential:
        inputs = {field.name: IDS[:, i] for i, field in enumerate(PLAIN)}
    if is_compiled:
        model.compile(LazyAdam(0.1), "binary_crossentropy")
        model.train_on_batch(inputs, np.arange(16) % 2)

    transferred = transfer_model(model)

    np.testing.assert_allclose(transferred(inputs), model(inputs), rtol=1e-4, atol=1e-5)
    assert (model.compiled, transferred.compiled) == (is_compiled, False)
    assert transferred.name == model.name
    kinds = [type(layer) for layer in transferred._flatten_layers()]
    assert PlannedEmbedding in kinds
    assert DimGrowEmbedding not in kinds


class Subclassed(keras.Model):
    def __init__(self):
        super().__init__(name="subclassed")
        self.embedding = settled_layer()

    def call(self, inputs):
        return self.embedding(inputs)


@pytest.mark.parametrize(
    "make", [Subclassed, lambda: keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)], name="plain")]
)
def test_models_of_other_kinds_are_refused_and_the_cure_is_named(make):
    model = make()

    with pytest.raises(
        ValueError, match=rf"received {type(model).__name__} '{model.name}'.*transfer_layer\(embedding\)"
    ):
        transfer_model(model)


def test_a_layer_without_values_is_refused():
    with pytest.raises(ValueError, match="'embedding' has no values to transfer yet"):
        transfer_layer(DimGrowEmbedding(PLAIN, name="embedding"))


def test_a_layer_whose_gates_removed_every_field_is_refused():
    layer = settled_layer()
    layer.theta.assign(np.full(6, -1.0))

    with pytest.raises(ValueError, match="Every field has dimension 0"):
        transfer_layer(layer)
