"""StoredChunkedEmbedding: what is served gives the rows that were trained, in no more bytes, from fewer addresses."""

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_dimgrow import ChunkConfig, ChunkedEmbedding, Field
from keras_dimgrow.layers import StoredChunkedEmbedding
from keras_dimgrow.layers.stored_chunks import Layout

D, WIDTH = 4, 3
FIELDS = (
    Field(name="user", vocabulary_size=60, max_dim=D),
    Field(name="tags", vocabulary_size=8, max_dim=D, combiner="sum"),
    Field(name="hour", vocabulary_size=8, max_dim=D),
    Field(name="item", vocabulary_size=40, max_dim=D, table="items"),
    Field(name="history", vocabulary_size=40, max_dim=D, table="items", combiner="mean", missing_id=-1),
    Field(name="wide", vocabulary_size=5, max_dim=2 * D),
)


def make(live, adapter="joint", **config) -> ChunkedEmbedding:
    """A layer whose chunks are those of `live`: field name -> bool [V, K]."""
    layer = ChunkedEmbedding(FIELDS, ChunkConfig(pruning_ratio=0.0, **config), WIDTH, adapter, stddev=1.0, seed=0)
    layer.build(None)
    for dim, store in layer.stores.items():
        tables = [name for name in ("user", "tags", "hour", "item", "wide") if (name == "wide") == (dim == 2 * D)]
        if store.num_entries == store.num_rows:
            store.index.assign(store.index * np.concatenate([live[name] for name in tables]))
    return layer


def whole_rows(shares, num_chunks=2):
    """All chunks or none of each row: the first of each table, as many as its share."""
    sizes = {"user": 60, "tags": 8, "hour": 8, "item": 40, "wide": 5}
    return {
        name: np.repeat(np.arange(size)[:, None] < shares.get(name, 1) * size, num_chunks, 1)
        for name, size in sizes.items()
    }


def make_ids(seed=0):
    rng = np.random.default_rng(seed)
    ids = {f.name: rng.integers(0, f.vocabulary_size, 9) for f in FIELDS if f.combiner is None}
    return ids | {"tags": rng.integers(0, 8, (9, 2)), "history": rng.integers(-1, 40, (9, 3))}


def bytes_of_chunks(layer, storage):
    """Of each live chunk with its values, and an address for each chunk of a row."""
    total = 0
    for store in layer.stores.values():
        width = {"float32": 4 * store.chunk_width, "float16": 2 * store.chunk_width, "int8": store.chunk_width + 1}
        width["int8"] = 2 if store.chunk_width == 1 else width["int8"]
        index = store.index.numpy()
        total += np.count_nonzero(index) * width[storage] + index.nbytes + 4 * store.dimension + 4  # the row of zeros
    return total


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 2**16),
    share=st.floats(0, 1),
    together=st.floats(0, 1),
    num_chunks=st.sampled_from([1, 2, 4]),
    storage=st.sampled_from(["float32", "float16", "int8"]),
    entries=st.sampled_from([None, None, 50]),
)
def test_rows_are_those_that_were_trained_in_no_more_bytes(seed, share, together, num_chunks, storage, entries):
    rng = np.random.default_rng(seed)
    live = {}
    for name, rows in whole_rows({}, num_chunks).items():
        alike = rng.random(len(rows))[:, None] < together
        live[name] = np.where(alike, rng.random((len(rows), 1)) < share, rng.random(rows.shape) < share)
    layer = make(live, chunks=num_chunks, entries=entries)

    stored = StoredChunkedEmbedding.of(layer, storage)

    tolerance = {"float32": 0, "float16": 2e-3, "int8": 0.03}[storage]
    for name, rows in layer.tables_by_field().items():
        np.testing.assert_allclose(stored.tables_by_field()[name], rows, atol=tolerance)
    assert stored.summary()["bytes"] <= bytes_of_chunks(layer, storage)
    for name, counts in layer.live_chunks().items():
        assert (stored.live_chunks()[name] >= counts).all()
    ids = make_ids(seed)
    np.testing.assert_allclose(stored(ids), layer(ids), atol=60 * tolerance + 1e-5)


def test_rows_whose_chunks_live_and_die_together_have_one_address_and_full_tables_none():
    stored = StoredChunkedEmbedding.of(make(whole_rows({"user": 0.5, "item": 0.25})), "float32")

    # One address instead of two spares 4 bytes of each of 116 rows; without any, tables of 16 bytes a row cost, after their
    # addresses, -32, -32, 30 * 16 - 60 * 4 for the pruned rows of "user", and 30 * 16 - 40 * 4 for those of "item": too much.
    assert stored.layouts == [Layout(1, 60 + 8 + 8 + 10, (0, 1, 2)), Layout(1, 5, (0,))]
    assert stored.stores[D].index.shape == (40,)
    assert stored.stores[2 * D].index.shape == (0,)
    assert stored.summary()["used"] == 2 * (86 + 5)
    assert stored.mean_dimensions()["item"] == D / 4


def test_rows_with_single_chunks_keep_an_address_for_each():
    live = whole_rows({})
    for table in live.values():
        table[:, 1] = False

    stored = StoredChunkedEmbedding.of(make(live), "float32")

    assert [layout.num_parts for layout in stored.layouts] == [2, 2]


@pytest.mark.parametrize("adapter", ["joint", "per_field"])
def test_a_layer_with_direct_tables_comes_back_from_a_file(adapter, tmp_path):
    layer = make(whole_rows({"user": 0.5, "item": 0.25}), adapter)
    ids = make_ids()
    inputs = {name: keras.Input(values.shape[1:], dtype="int32", name=name) for name, values in ids.items()}
    stored = StoredChunkedEmbedding.of(layer, "float32")
    keras.Model(inputs, stored(inputs)).save(tmp_path / "model.keras")

    loaded = keras.saving.load_model(tmp_path / "model.keras")

    np.testing.assert_allclose(stored(ids), layer(ids), atol=1e-5)
    np.testing.assert_array_equal(loaded(ids), stored(ids))
    assert stored(ids).shape == ((9, WIDTH) if adapter == "joint" else (9, len(FIELDS), WIDTH))
