"""SSEDS: the saliency of columns, and one pruning by it."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_dimgrow import Field, ModelConfig, RankingModel, build_model, search
from keras_dimgrow.methods.problem import SearchProblem
from keras_dimgrow.methods.sseds import SSEDSConfig, column_saliency
from keras_dimgrow.methods.supernet import SupernetEmbedding

MODEL = ModelConfig(adapter_width=8, hidden_units=(8,))
FAST_MODEL = ModelConfig(backbone="fm", adapter_width=2)  # where it only matters that there is one
CONFIG = SSEDSConfig(dimension=3, epochs=1)


@pytest.fixture(scope="module")
def found(many_planted):
    """What a search without a budget found, and its records as they came."""
    records = []
    result = search(
        many_planted.fields,
        many_planted.batches().skip(56),
        many_planted.batches(is_shuffled=False).take(32),
        method="sseds",
        config=SSEDSConfig(dimension=3),
        model_config=MODEL,
        on_check=records.append,
    )
    return result, records


def randomise(layer):
    """Values that make a difference to the loss."""
    rng = np.random.default_rng(0)
    for variable in (*layer.tables.values(), layer.kernel):
        variable.assign(0.7 * rng.normal(size=variable.shape))


def test_saliency_is_the_gradient_of_the_loss_in_closed_form():
    layer = SupernetEmbedding([Field(name="a", vocabulary_size=4)], 3, adapter_width=1, adapter="joint", seed=0)
    model = RankingModel(layer, keras.layers.Activation("sigmoid"))
    model.build()
    randomise(layer)
    ids, labels = np.array([0, 1, 1, 3]), np.array([1.0, 0.0, 1.0, 0.0], np.float32)

    saliency = column_saliency(model, layer, tf.data.Dataset.from_tensors(({"a": ids}, labels)))

    # With z = sum_k alpha_k e_k w_k: dL / d alpha_k = mean((sigmoid(z) - y) e_k w_k).
    parts = layer.tables_by_field()["a"][ids] * layer.kernel.numpy()[:, 0]
    errors = 1 / (1 + np.exp(-parts.sum(1))) - labels
    expected = np.abs((errors[:, np.newaxis] * parts).mean(0))
    np.testing.assert_allclose(saliency, expected / expected.sum(), rtol=1e-5)


def test_saliency_is_the_numeric_difference_of_the_loss_by_the_mask_of_a_shared_table():
    fields = [
        Field(name="a", vocabulary_size=5, table="t"),
        Field(name="b", vocabulary_size=5, table="t"),
        Field(name="c", vocabulary_size=7, max_dim=2),
    ]
    config = ModelConfig(backbone="fm", adapter_width=3)
    layer = SupernetEmbedding(fields, 3, config.adapter_width, config.adapter, seed=0)
    model = build_model(layer, config, seed=0)
    randomise(layer)
    rng = np.random.default_rng(1)
    ids = {field.name: rng.integers(0, field.vocabulary_size, 40) for field in fields}
    labels = rng.integers(0, 2, 40).astype(np.float32)

    def loss(mask):
        layer.gate.assign(mask)
        p = model(ids).numpy()[:, 0].astype(np.float64)
        return -np.mean(np.where(labels > 0, np.log(p), np.log1p(-p)))

    step, ones = 1e-2, np.ones(5)
    differences = [abs(loss(ones + step * e) - loss(ones - step * e)) / (2 * step) for e in np.eye(5)]
    layer.gate.assign(ones)
    saliency = column_saliency(model, layer, tf.data.Dataset.from_tensors((ids, labels)))

    np.testing.assert_allclose(saliency, np.array(differences) / np.sum(differences), rtol=5e-3, atol=1e-4)


def test_gradients_of_batches_that_point_to_opposite_sides_do_not_cancel():
    layer = SupernetEmbedding([Field(name="a", vocabulary_size=2)], 2, adapter_width=1, adapter="joint", seed=0)
    model = RankingModel(layer, keras.layers.Activation("sigmoid"))
    model.build()
    # Column 0 matters in both batches, with opposite signs; column 1 nowhere.
    layer.tables["2"].assign([[1.0, 0.0], [1.0, 0.0]])
    layer.kernel.assign([[1e-3], [1e-3]])
    batches = tf.data.Dataset.from_tensor_slices(({"a": [0, 1]}, [0.0, 1.0])).batch(1)

    np.testing.assert_allclose(column_saliency(model, layer, batches), [1.0, 0.0])


def test_saliency_of_a_model_that_ignores_all_columns_is_0():
    layer = SupernetEmbedding([Field(name="a", vocabulary_size=2)], 2, adapter_width=1, adapter="joint", seed=0)
    model = RankingModel(layer, keras.layers.Activation("sigmoid"))
    model.build()
    layer.kernel.assign([[0.0], [0.0]])
    batches = tf.data.Dataset.from_tensor_slices(({"a": [0, 1]}, [0.0, 1.0])).batch(2)

    np.testing.assert_array_equal(column_saliency(model, layer, batches), [0.0, 0.0])


def test_columns_of_a_useless_field_have_the_least_saliency(found):
    saliency = found[0].trajectory[-1]["saliency"]

    assert max(saliency["noise"]) < min(*saliency["left"], *saliency["right"])
    assert sum(sum(of_field) for of_field in saliency.values()) == pytest.approx(1.0)


def test_without_a_budget_a_tenth_of_the_supernet_is_kept(found):
    result, records = found

    # 240 parameters in all, of which 24 are three columns of the small tables.
    assert result.plan.parameters == 24
    assert result.plan.dimensions["noise"] == 0
    assert result.trajectory == records
    assert [record["dimensions"]["noise"] for record in records] == [3, 3, 3, 0]
    assert records[-1]["parameters"] == 24
    assert result.peak_table_bytes == 3 * 4 * 240


@pytest.mark.parametrize("budget", [8, 16, 40, 48, 111, 112, 240])
def test_plans_of_all_budgets_walk_down_one_ranking(found, budget):
    result, _ = found
    ranked = sorted(
        ((s, name) for name, of_field in result.trajectory[-1]["saliency"].items() for s in of_field), reverse=True
    )
    sizes = {"left": 8, "noise": 64, "right": 8}
    expected, left = dict.fromkeys(sizes, 0), budget
    for _, name in ranked:
        if sizes[name] <= left:
            expected[name] += 1
            left -= sizes[name]

    assert result.plan_at(budget).dimensions == expected


def test_a_search_with_a_budget_is_the_plan_of_the_same_search_without_one(planted):
    def run(budget):
        options = {"method": "sseds", "config": CONFIG, "model_config": FAST_MODEL, "seed": 3}
        return search(planted.fields, planted.batches(), planted.batches(), parameter_budget=budget, **options)

    bounded, free = run(32), run(None)

    assert bounded.plan.parameters == 32
    assert bounded.plan == bounded.plan_at(32) == free.plan_at(32)
    assert bounded.trajectory[-1]["saliency"] == free.trajectory[-1]["saliency"]


@pytest.mark.parametrize(("min_dim", "kept"), [(0, 10), (2, 220)])
def test_the_share_without_a_budget_is_at_least_what_must_be_kept(min_dim, kept):
    fields = (
        Field(name="a", vocabulary_size=100, min_dim=min_dim),
        Field(name="b", vocabulary_size=10, min_dim=min_dim),
    )
    layer = SupernetEmbedding(fields, 2, adapter_width=1, adapter="joint", seed=0)

    budget = SSEDSConfig(keep_share=0.01).budget(SearchProblem(fields=fields, train_data=None), layer)

    assert budget == kept


def test_a_search_without_validation_data_is_refused(planted):
    with pytest.raises(ValueError, match="Pass validation_data"):
        search(planted.fields, planted.batches(), method="sseds")


@pytest.mark.parametrize("share", [0.0, 1.1])
def test_a_share_outside_its_range_is_refused(share):
    with pytest.raises(ValueError, match="keep_share must be"):
        SSEDSConfig(keep_share=share)
