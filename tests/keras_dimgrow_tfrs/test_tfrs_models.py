"""A plan and its tables in TFRS models: trained, exported, reloaded and run; and what TFRS cannot hold."""

import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_recommenders as tfrs
import tf_keras

from keras_dimgrow import DimensionSearch, DimGrowEmbedding, Field, LazyAdam, PlannedEmbedding
from keras_dimgrow.tfrs import PlannedTables, kernels_from, tables_from
from tests.keras_dimgrow_tfrs.conftest import SIZES, run_in_session

NAMES = ["user_id", "country", "device"]  # what TensorFlow takes for the names of a signature's inputs


class Ranking(tfrs.Model):
    def __init__(self, embedding):
        super().__init__()
        self.embedding = embedding
        self.head = tf_keras.layers.Dense(1, activation="sigmoid")
        self.task = tfrs.tasks.Ranking(tf_keras.losses.BinaryCrossentropy(), [tf_keras.metrics.AUC(name="auc")])

    def call(self, features):
        return self.head(self.embedding(features))

    def compute_loss(self, inputs, training=False):
        features, labels = inputs
        return self.task(labels, self(features))


class TwoTowers(tfrs.Model):
    def __init__(self, query, candidate, candidates):
        super().__init__()
        self.query, self.candidate = query, candidate
        self.task = tfrs.tasks.Retrieval(metrics=tfrs.metrics.FactorizedTopK(candidates, ks=(1, 3)))

    def compute_loss(self, features, training=False):
        # By ids: by scores, TFRS takes two roundings of the same score for two candidates.
        query, candidate, ids = self.query(features), self.candidate(features), features["item id"]
        return self.task(query, candidate, candidate_ids=ids, compute_metrics=not training)


@pytest.fixture
def features(ids):
    return {name: ids[name] for name in NAMES}


@pytest.fixture
def data(features):
    labels = (features["user_id"] % 2).astype("float32")
    return tf.data.Dataset.from_tensor_slices((features, labels)).batch(32)


def fit(model, data, optimizer=None, epochs=1, callbacks=()):
    model.compile(optimizer or tf_keras.optimizers.Adagrad(0.3))
    return model.fit(data, epochs=epochs, verbose=0, callbacks=list(callbacks)).history


@pytest.mark.parametrize("embedding", ["joint"], indirect=True)
def test_a_ranking_task_trains_the_loaded_tables_and_its_export_runs(plan, features, data, embedding, tmp_path):
    tables = tables_from(embedding)
    layer = PlannedTables(plan, 4, fields=NAMES).load(tables, kernels_from(embedding))
    model = Ranking(layer)

    history = fit(model, data, epochs=10)
    model.export(str(tmp_path))

    assert history["loss"][-1] < 0.8 * history["loss"][0]
    assert history["auc"][-1] > 0.8
    for name in NAMES:
        assert np.abs(layer.tables[name].embeddings - tables[name]).max() > 1e-3
    reloaded = tf.saved_model.load(str(tmp_path))
    np.testing.assert_allclose(reloaded.serve(features), model(features), atol=1e-6)
    np.testing.assert_allclose(run_in_session(str(tmp_path), features)[0], model(features), atol=1e-6)


def test_a_ranking_model_saved_in_the_tf_format_loads_with_its_weights(plan, features, data, tmp_path):
    model = Ranking(PlannedTables(plan, 4, fields=NAMES))
    fit(model, data)
    model.save(tmp_path / "model", save_format="tf")

    loaded = tf_keras.models.load_model(tmp_path / "model")

    np.testing.assert_allclose(loaded(features), model(features), atol=1e-6)
    assert [v.shape for v in loaded.trainable_variables] == [v.shape for v in model.trainable_variables]


@pytest.mark.parametrize("embedding", ["joint"], indirect=True)
def test_two_towers_learn_to_retrieve_and_their_index_is_exported(plan, embedding, tmp_path):
    names = {"query": ["user_id", "country"], "candidate": ["item id"]}
    query, candidate = (PlannedTables(plan, 4, fields=f).load(tables_from(embedding)) for f in names.values())
    users = np.arange(256) % SIZES["user_id"]  # each user chooses the item of the same number
    chosen = {"user_id": users, "country": users % SIZES["country"], "item id": users}
    data = tf.data.Dataset.from_tensor_slices(chosen).batch(SIZES["user_id"])
    items = tf.data.Dataset.from_tensor_slices({"item id": np.arange(SIZES["user_id"])}).batch(8)
    candidates = items.map(lambda item: (item["item id"], candidate(item)))
    model = TwoTowers(query, candidate, candidates)

    fit(model, data, epochs=10)
    found = model.evaluate(data, return_dict=True, verbose=0)
    index = tfrs.layers.factorized_top_k.BruteForce(query, k=3).index_from_dataset(candidates)
    asked = {name: chosen[name][:8] for name in names["query"]}
    scores, best = index(asked)
    index.export(str(tmp_path))

    assert found["factorized_top_k/top_1_categorical_accuracy"] == 1.0
    np.testing.assert_array_equal(best[:, 0], np.arange(8))
    reloaded = tf.saved_model.load(str(tmp_path))
    np.testing.assert_allclose(reloaded.serve(asked)[0], scores, atol=1e-6)
    served_scores, served_best = run_in_session(str(tmp_path), asked)
    np.testing.assert_allclose(served_scores, scores, atol=1e-6)
    np.testing.assert_array_equal(served_best, best)


FIELDS = [Field(name=name, vocabulary_size=SIZES[name]) for name in NAMES]


def test_a_keras_3_layer_stops_at_the_first_step_of_a_tfrs_model(plan, data):
    for layer in (DimGrowEmbedding(FIELDS, 4), PlannedEmbedding(plan, 4)):
        wanted = data.map(lambda x, y: (x | {"item id": x["user_id"]}, y))
        with pytest.raises(AttributeError, match="has no attribute '_unique_id'"):
            fit(Ranking(layer), wanted)


def test_a_keras_3_layer_in_a_functional_keras_2_model_is_never_trained(data):
    layer = DimGrowEmbedding(FIELDS, 4)
    inputs = {name: tf_keras.Input((), dtype=tf.int64, name=name) for name in NAMES}
    model = Ranking(tf_keras.Model(inputs, layer(inputs)))
    before = [variable.numpy() for variable in layer.tables]

    fit(model, data)

    assert [v.name.split("/")[-1] for v in model.trainable_variables] == ["kernel:0", "bias:0"]
    for value, variable in zip(before, layer.tables, strict=True):
        np.testing.assert_array_equal(value, variable.numpy())


def test_tfrs_takes_no_keras_3_layer_in_sequential_no_search_callback_and_no_lazy_adam(plan, data):
    layer = DimGrowEmbedding(FIELDS, 4)

    with pytest.raises(TypeError, match="must be an instance of class Layer"):
        tf_keras.Sequential([layer])
    with pytest.raises(AttributeError, match="_implements_train_batch_hooks"):
        fit(Ranking(PlannedTables(plan, 4, fields=NAMES)), data, callbacks=[DimensionSearch(layer)])
    with pytest.raises(ValueError, match="Could not interpret optimizer identifier"):
        fit(Ranking(PlannedTables(plan, 4, fields=NAMES)), data, LazyAdam())


def test_a_frozen_planned_embedding_works_in_a_tfrs_model_and_in_its_export(plan, features, data, tmp_path):
    features = features | {"items": features["user_id"]}
    layer = PlannedEmbedding(type(plan)(tuple(f for f in plan.fields if f.name in NAMES)), 4)
    layer(features)
    layer.trainable = False
    model = Ranking(layer)

    fit(model, data)
    model.export(str(tmp_path))

    given = {name: features[name] for name in NAMES}
    np.testing.assert_allclose(run_in_session(str(tmp_path), given)[0], model(given), atol=1e-6)


def test_a_keras_3_search_model_can_hold_a_ranking_task(data):
    class Search(keras.Model):
        def __init__(self, embedding):
            super().__init__()
            self.embedding = embedding
            self.head = keras.layers.Dense(1, activation="sigmoid")
            self.task = tfrs.tasks.Ranking(tf_keras.losses.BinaryCrossentropy())

        def call(self, inputs, training=None):
            return self.head(self.embedding(inputs, training=training))

        def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
            return self.task(y, y_pred) + sum(self.losses)

    layer = DimGrowEmbedding(FIELDS, 4, seed=0)
    model = Search(layer)
    model(next(iter(data))[0])
    model.compile(LazyAdam(0.03))

    losses = model.fit(
        data.repeat(),
        epochs=2,
        steps_per_epoch=60,
        shuffle=False,
        callbacks=[DimensionSearch(layer, check_every=10)],
        verbose=0,
    ).history["loss"]

    assert losses[1] < losses[0]
    assert sum(layer.allocated_dims) > len(FIELDS)
