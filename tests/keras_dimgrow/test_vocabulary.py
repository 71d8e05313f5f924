"""Vocabularies that grow: known values keep their vectors, new ones get fresh rows."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_dimgrow import (
    DimGrowEmbedding,
    EmbeddingPlan,
    Field,
    GrowableAdam,
    GrowableEmbedding,
    LazyAdam,
    ModelConfig,
    PlannedEmbedding,
    build_model,
    grow_vocabulary,
    with_storage,
)
from keras_dimgrow.vocabulary import grow_layer

FIELDS = (
    Field(name="city", vocabulary_size=5, min_dim=2),
    Field(name="home", vocabulary_size=4, min_dim=2, table="place"),
    Field(name="hour", vocabulary_size=3, min_dim=1),
    Field(name="work", vocabulary_size=4, min_dim=2, table="place"),
)
IDS = {field.name: np.arange(12) % field.vocabulary_size for field in FIELDS}
LABELS = np.arange(12) % 2


def planned(**options) -> PlannedEmbedding:
    dims = {"city": 2, "home": 2, "hour": 0, "work": 2}
    return PlannedEmbedding(EmbeddingPlan.from_dimensions(FIELDS, dims), 4, stddev=1.0, seed=0, **options)


def growable(**options) -> GrowableEmbedding:
    return GrowableEmbedding(FIELDS, None, 4, stddev=1.0, seed=0, **options)


def gated(**options) -> DimGrowEmbedding:
    return DimGrowEmbedding(FIELDS, 4, stddev=1.0, seed=0, **options)


def make_model(make=growable) -> keras.Model:
    return build_model(make(name="embedding"), ModelConfig(adapter_width=4, hidden_units=(4,)), 0)


def table_of(layer, name: str) -> np.ndarray:
    if isinstance(layer, PlannedEmbedding):
        return layer.tables_by_field()[name]
    return layer.tables[layer.table_of[[field.name for field in layer.fields].index(name)]].numpy()


# A new model.


@pytest.mark.parametrize("make", [planned, growable, gated])
def test_old_ids_keep_their_vectors_to_the_bit_and_the_model_says_the_same(make):
    model = make_model(make)
    model.compile(LazyAdam(0.1), "binary_crossentropy")
    model.train_on_batch(IDS, LABELS)
    if make is not planned:
        model.embedding.grow({0: 2} if make is growable else 0, model.optimizer)

    grown = grow_vocabulary(model, {"city": 9, "home": 6})

    for name, size in {"city": 5, "home": 4, "work": 4}.items():
        np.testing.assert_array_equal(table_of(grown.embedding, name)[:size], table_of(model.embedding, name))
    assert len(table_of(grown.embedding, "city")) == 9
    assert len(table_of(grown.embedding, "work")) == 6
    np.testing.assert_array_equal(grown(IDS), model(IDS))
    assert not grown.compiled
    assert len(table_of(model.embedding, "city")) == 5


@pytest.mark.parametrize("make", [planned, growable, gated])
def test_new_ids_have_vectors_of_their_own_and_learn(make):
    grown = grow_vocabulary(make_model(make), {"city": 9})
    before = table_of(grown.embedding, "city")[5:].copy()
    assert len(np.unique(before, axis=0)) == 4
    assert 0.2 < before.std() < 3

    grown.compile(LazyAdam(0.1), "binary_crossentropy")
    grown.train_on_batch(IDS | {"city": 5 + np.arange(12) % 4}, LABELS)

    assert (table_of(grown.embedding, "city")[5:] != before).any(axis=1).all()


@pytest.mark.parametrize("make", [planned, growable, gated])
def test_a_grown_model_comes_back_from_a_file(make, tmp_path):
    grown = grow_vocabulary(make_model(make), {"city": 9})
    grown.save(tmp_path / "model.keras")

    loaded = keras.saving.load_model(tmp_path / "model.keras")

    new = IDS | {"city": 5 + np.arange(12) % 4}
    np.testing.assert_array_equal(loaded(new), grown(new))


def test_growing_twice_gives_the_same_and_a_size_that_stays_changes_nothing():
    model = make_model(planned)

    first, second = (grow_vocabulary(model, {"city": 9, "hour": 3}) for _ in range(2))

    np.testing.assert_array_equal(table_of(first.embedding, "city"), table_of(second.embedding, "city"))
    assert first.embedding.plan.dimensions == model.embedding.plan.dimensions


@pytest.mark.parametrize("make", [planned, growable, gated])
def test_ids_may_move_and_values_may_go(make):
    """The last id stands for unknown values, and stays the last; id 1 is forgotten."""
    model = make_model(make)
    old = table_of(model.embedding, "city")

    grown = table_of(grow_vocabulary(model, {"city": [0, 2, 3, -1, -1, 4]}).embedding, "city")

    np.testing.assert_array_equal(grown[[0, 1, 2, 5]], old[[0, 2, 3, 4]])
    assert not np.isin(grown[3:5], old).any()


def test_an_embedding_of_keras_grows_by_the_name_of_its_layer():
    city = keras.layers.Embedding(5, 3, name="city", mask_zero=True)
    inputs = keras.Input((2,), dtype="int32")
    outputs = keras.layers.Dense(1)(keras.layers.GlobalAveragePooling1D()(city(inputs)))
    model = keras.Model(inputs, outputs)
    ids = np.array([[1, 2], [4, 0]])

    grown = grow_vocabulary(model, {"city": 7})

    np.testing.assert_array_equal(grown(ids), model(ids))
    assert grown.get_layer("city").input_dim == 7
    assert grown.get_layer("city").mask_zero
    assert np.ptp(grown(np.array([[5, 5], [6, 6]]))) > 0


@pytest.mark.parametrize(
    ("vocabularies", "message"),
    [
        ({"town": 9}, r"embeds \['city', 'home', 'hour', 'work'\]; received vocabularies of \['town'\]"),
        ({"city": 4}, r"'city': its vocabulary has 5 ids; received the smaller size 4. Which ids go"),
        ({"city": [0, 5]}, r"'city': old ids are 0 .. 4, or -1 for none; received 5 for the new id 1"),
        ({"city": [-2, 0]}, r"received -2 for the new id 0"),
        ({"city": [0.0, 1.0]}, r"expected a size, or one old id"),
        ({"city": [[0, 1]]}, r"expected a size, or one old id"),
        ({"home": 5, "work": 6}, r"'home' and 'work' share table 'place'; received different vocabularies"),
        ({"city": [0]}, r"vocabulary_size must be >= 2; received 1"),
    ],
)
@pytest.mark.parametrize("make", [planned, growable])
def test_vocabularies_that_do_not_fit_are_refused(make, vocabularies, message):
    with pytest.raises(ValueError, match=message):
        grow_vocabulary(make_model(make), vocabularies)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (lambda: keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)]), r"received Sequential"),
        (lambda: with_storage(make_model(planned)), r"received 'embedding', a StoredEmbedding"),
    ],
)
def test_models_that_embed_nothing_or_only_serve_are_refused(model, message):
    with pytest.raises(ValueError, match=message):
        grow_vocabulary(model(), {"city": 9})


def test_a_layer_without_values_is_refused():
    with pytest.raises(ValueError, match="'embedding' has no values to keep yet"):
        grow_layer(planned(name="embedding"), {"city": 9})


# The same layer, while it trains.


@pytest.mark.parametrize("optimizer", [LazyAdam, GrowableAdam])
def test_rows_are_added_while_the_model_trains_and_nothing_is_traced_again(optimizer):
    model = make_model()
    model.compile(optimizer(0.1), "binary_crossentropy")
    data = tf.data.Dataset.from_tensor_slices((IDS, LABELS)).batch(6)
    new = tf.data.Dataset.from_tensor_slices((IDS | {"city": 5 + np.arange(12) % 4}, LABELS)).batch(6)
    layer, traces, call = model.embedding, [], model.backbone.call

    def traced(*args, **kwargs):
        traces.append(1)
        return call(*args, **kwargs)

    model.backbone.call = traced
    model.fit(data, verbose=0)
    num_traces = len(traces)
    before, outputs = table_of(layer, "city"), model(IDS).numpy()
    moments = [slot.numpy() for _, slot in model.optimizer.slots_of(layer.tables[0])]

    layer.add_rows({"city": 9, "work": 5}, model.optimizer)

    np.testing.assert_array_equal(table_of(layer, "city")[:5], before)
    np.testing.assert_array_equal(model(IDS), outputs)
    assert [table.shape[0] for table in layer.tables] == [9, 5, 3]
    assert [field.vocabulary_size for field in layer.fields] == [9, 5, 3, 5]
    for (_, slot), old in zip(model.optimizer.slots_of(layer.tables[0]), moments, strict=True):
        np.testing.assert_array_equal(slot.numpy()[:5], old)
        assert not slot.numpy()[5:].any()
    fresh, num_eager = table_of(layer, "city")[5:], len(traces) - num_traces
    model.fit(new, verbose=0)
    assert (table_of(layer, "city")[5:] != fresh).any(axis=1).all()
    assert num_traces > 0
    assert len(traces) == num_traces + num_eager


def test_a_layer_that_gained_rows_and_columns_comes_back_from_a_file(tmp_path):
    model = make_model()
    model.embedding.add_rows({"city": 9})
    model.embedding.grow({0: 2, 2: 1})
    model.embedding.add_rows({"city": 11, "hour": 4})
    model.save(tmp_path / "model.keras")

    loaded = keras.saving.load_model(tmp_path / "model.keras")

    ids = IDS | {"city": 8 + np.arange(12) % 3, "hour": np.full(12, 3)}
    np.testing.assert_array_equal(loaded(ids), model(ids))
    assert loaded.embedding.tables[0].shape == (11, 4)


def test_rows_that_are_added_later_differ_from_those_before():
    layer = growable()
    layer.build(None)

    layer.add_rows({"city": 7})
    layer.add_rows({"city": 9})

    assert len(np.unique(table_of(layer, "city"), axis=0)) == 9


@pytest.mark.parametrize(
    ("options", "sizes", "message"),
    [
        ({}, {"town": 9}, r"embeds \['city', 'home', 'hour', 'work'\]; received sizes of \['town'\]"),
        ({}, {"city": 4}, r"Field 'city': its vocabulary has 5 ids; received the smaller size 4"),
        ({"check_ids": True}, {"city": 9}, r"Build it without check_ids, or make a new model by grow_vocabulary"),
    ],
)
def test_rows_that_cannot_be_added_are_refused_before_anything_changes(options, sizes, message):
    layer = growable(**options)
    layer.build(None)

    with pytest.raises(ValueError, match=message):
        layer.add_rows({"home": 9} | sizes)

    assert [table.shape[0] for table in layer.tables] == [5, 4, 3]
