"""PlannedTables: the Keras 3 layer's values in Keras 2, for all fields or for those of one tower."""

import numpy as np
import pytest
import tensorflow as tf
import tf_keras

from keras_dimgrow import ChunkConfig, DimGrowEmbedding, Field, PlannedEmbedding
from keras_dimgrow.tfrs import PlannedTables, kernels_from, tables_from
from tests.keras_dimgrow_tfrs.conftest import DIMENSIONS, SIZES

KEPT = [name for name, dimension in DIMENSIONS.items() if dimension]


def test_a_loaded_layer_predicts_what_the_keras_3_layer_predicts(plan, ids, embedding):
    layer = PlannedTables(plan, 4, embedding.adapter)

    assert layer.load(tables_from(embedding), kernels_from(embedding)) is layer

    np.testing.assert_allclose(layer(ids), embedding(ids), atol=1e-5)


def test_tables_and_kernels_have_the_shapes_of_the_plan(embedding):
    tables, kernels = tables_from(embedding), kernels_from(embedding)

    assert {name: table.shape for name, table in tables.items()} == {n: (SIZES[n], DIMENSIONS[n]) for n in KEPT}
    assert {name: rows.shape for name, rows in kernels.items()} == {n: (DIMENSIONS[n], 4) for n in KEPT}


def test_towers_split_the_joint_adapter_into_a_sum(plan, ids, embedding):
    joint_output = np.asarray(embedding(ids)) if embedding.adapter == "joint" else np.sum(embedding(ids), axis=1)
    query, candidate = (
        PlannedTables(plan, 4, fields=names).load(tables_from(embedding), kernels_from(embedding))
        for names in (["country", "user_id", "hour"], ["device", "item id"])
    )

    np.testing.assert_allclose(query(ids) + candidate(ids), joint_output, atol=1e-5)
    assert list(query.tables) == ["user_id", "country"]


def test_without_an_adapter_the_output_is_the_rows_in_the_order_of_the_plan(plan, ids, embedding):
    tables = tables_from(embedding)

    output = PlannedTables(plan).load(tables)(ids)

    np.testing.assert_array_equal(output, np.concatenate([tables[name][ids[name]] for name in KEPT], axis=1))


def test_ids_may_be_columns_and_of_a_removed_field_or_absent(plan, ids):
    layer = PlannedTables(plan, 4)

    columns = {name: ids[name][:, np.newaxis].astype("int32") for name in KEPT}

    np.testing.assert_array_equal(layer(columns), layer(ids))


def test_every_weight_is_trainable_and_has_a_gradient_of_touched_rows_only(plan, ids):
    layer = PlannedTables(plan, 4)

    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(layer(ids))
    gradients = tape.gradient(loss, layer.trainable_variables)

    assert len(layer.trainable_variables) == len(KEPT) + 1
    assert sum(isinstance(gradient, tf.IndexedSlices) for gradient in gradients) == len(KEPT)
    assert len({variable.name for variable in layer.variables}) == len(KEPT) + 1


def test_a_seed_gives_the_same_fresh_values_and_each_field_its_own(plan, ids):
    first, second, third = (PlannedTables(plan, 4, seed=seed) for seed in (3, 3, 4))

    np.testing.assert_array_equal(first(ids), second(ids))
    assert np.abs(first(ids) - third(ids)).max() > 0
    tables = [table.embeddings[:3, 0].numpy() for table in first.tables.values()]
    assert len(np.unique(tables)) == np.size(tables)


def test_a_layer_made_from_its_config_has_the_same_outputs(plan, ids):
    layer = PlannedTables(plan, 4, "per_field", fields=["user_id", "country"])

    copy = tf_keras.layers.deserialize(tf_keras.layers.serialize(layer))

    np.testing.assert_array_equal(copy(ids), layer(ids))


def test_a_keras_2_model_with_it_survives_a_keras_file(plan, ids, tmp_path):
    inputs = {name: tf_keras.Input((), dtype=tf.int64, name=name) for name in ("user_id", "country")}
    model = tf_keras.Model(inputs, PlannedTables(plan, 4, fields=list(inputs))(inputs))
    model.save(tmp_path / "model.keras")

    loaded = tf_keras.models.load_model(tmp_path / "model.keras")

    given = {name: ids[name] for name in inputs}
    np.testing.assert_array_equal(loaded(given), model(given))


def test_mixed_precision_keeps_float32_weights_and_gives_float16(plan, ids):
    layer = PlannedTables(plan, 4, dtype="mixed_float16")

    assert layer(ids).dtype == tf.float16
    assert {variable.dtype for variable in layer.variables} == {tf.float32}


@pytest.mark.parametrize(
    ("fields", "received"), [(["hour"], r"received \['hour'\]"), (["user_id", "user"], r"\['user_id', 'user'\]")]
)
def test_a_tower_of_removed_or_unknown_fields_is_refused(plan, fields, received):
    with pytest.raises(ValueError, match=received + r".*'hour': 0.*min_dim=1"):
        PlannedTables(plan, 4, fields=fields, name="query")


def test_a_plan_with_chunks_is_refused(plan):
    with pytest.raises(ValueError, match=r"received a plan with .*'user_id'.* in chunks. Train it with retrain"):
        PlannedTables(plan.in_chunks(ChunkConfig(pruning_ratio=0.5)), 4)


def test_strings_are_refused_and_the_cure_is_named(plan, ids):
    with pytest.raises(ValueError, match=r"field 'country': ids must be integers; received string. Put a StringLookup"):
        PlannedTables(plan, 4)(ids | {"country": np.array(["de"] * 256)})


def test_nothing_is_loaded_when_one_value_does_not_fit(plan, ids, embedding):
    layer = PlannedTables(plan, 4)
    before = np.asarray(layer(ids))
    tables = tables_from(embedding)

    with pytest.raises(ValueError, match=r"table of field 'device' must have shape \(3, 1\); received \(3, 2\)"):
        layer.load(tables | {"device": np.zeros((3, 2))})
    with pytest.raises(ValueError, match=r"table of field 'country' must have shape \(5, 2\); received none"):
        layer.load({name: table for name, table in tables.items() if name != "country"})
    with pytest.raises(ValueError, match=r"kernel of field 'user_id' must have shape \(3, 4\); received \(3, 5\)"):
        layer.load(tables, kernels_from(embedding) | {"user_id": np.zeros((3, 5))})

    np.testing.assert_array_equal(layer(ids), before)


def test_tables_of_a_search_layer_or_an_empty_layer_are_refused(plan):
    with pytest.raises(ValueError, match=r"received a DimGrowEmbedding. Retrain with the plan"):
        tables_from(DimGrowEmbedding([Field(name="user_id", vocabulary_size=8)]))
    with pytest.raises(ValueError, match=r"'planned' has no values yet"):
        kernels_from(PlannedEmbedding(plan, 4, name="planned"))
