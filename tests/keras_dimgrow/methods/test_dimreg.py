"""DimReg: gates under a polarisation penalty."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from keras_dimgrow import Field, ModelConfig, search
from keras_dimgrow.methods.dimreg import DimRegConfig, PolarisedSupernetEmbedding, polarisation

MODEL = ModelConfig(adapter_width=8, hidden_units=(8,))
FAST_MODEL = ModelConfig(backbone="fm", adapter_width=2)  # where it only matters that there is one
CONFIG = DimRegConfig(dimension=3)


@pytest.fixture(scope="module")
def found(many_planted):
    return search(many_planted.fields, many_planted.batches(), method="dimreg", config=CONFIG, model_config=MODEL)


def layer_of(fields, config=CONFIG):
    layer = PolarisedSupernetEmbedding(config, fields, adapter_width=4, adapter="joint", seed=0)
    layer.build(None)
    return layer


def test_the_penalty_and_its_gradient_have_their_closed_form():
    gates = tf.Variable([0.1, 0.2, 0.9])

    with tf.GradientTape() as tape:
        penalty = polarisation(gates, 1.4)

    # The mean is 0.4, from which gates are 0.3, 0.2 and 0.5 away.
    assert float(penalty) == pytest.approx(1.4 * 1.2 - 1.0)
    # t - sign(g_k - mean) + mean(sign(g - mean)), with a mean sign of -1/3.
    expected = [1.4 + 1 - 1 / 3, 1.4 + 1 - 1 / 3, 1.4 - 1 - 1 / 3]
    np.testing.assert_allclose(tape.gradient(penalty, gates), expected, rtol=1e-6)


def test_descent_on_the_penalty_alone_takes_low_gates_to_0_and_leaves_high_ones():
    gates = tf.Variable([0.2, 0.4, 0.8, 0.9])
    for _ in range(40):
        with tf.GradientTape() as tape:
            penalty = polarisation(gates, 1.0)
        gates.assign(tf.clip_by_value(gates - 0.01 * tape.gradient(penalty, gates), 0.0, 1.0))

    np.testing.assert_allclose(gates, [0.0, 0.0, 0.8, 0.9], atol=1e-2)


def test_the_model_is_penalised_in_training_for_what_is_searched_alone():
    fields = [Field(name="a", vocabulary_size=6), Field(name="b", vocabulary_size=6, min_dim=2, max_dim=2)]
    inputs = {"a": np.arange(6), "b": np.arange(6)}
    layer = layer_of(fields, DimRegConfig(dimension=3, penalty=0.5))
    layer.gate.assign([0.0, 0.0, 0.1, -9.0, -9.0])
    high = 1 / (1 + np.exp(-1.5))

    layer(inputs, training=True)

    mean = (1 + high) / 3
    distances = 2 * (mean - 0.5) + high - mean
    assert float(layer.losses[0]) == pytest.approx(0.5 * (1.4 * (1 + high) - distances), rel=1e-5)
    np.testing.assert_allclose(layer.gates(), [0.5, 0.5, high, 1.0, 1.0], rtol=1e-6)


def test_a_model_without_anything_to_search_has_no_penalty():
    layer = layer_of([Field(name="a", vocabulary_size=6, min_dim=2, max_dim=2)])

    layer({"a": np.arange(6)}, training=True)

    assert layer.losses == []


def test_columns_are_multiplied_by_their_gates_in_training_and_inference():
    layer = layer_of([Field(name="a", vocabulary_size=6)])
    layer.gate.assign([0.0, 1.0, -1.0])
    gates = 1 / (1 + np.exp(-15 * np.array([0.0, 1.0, -1.0])))
    expected = (layer.tables_by_field()["a"] * gates) @ layer.kernel.numpy()

    for training in (True, False):
        np.testing.assert_allclose(layer({"a": np.arange(6)}, training=training), expected, atol=1e-7)


def test_gates_of_a_useless_field_go_down_and_those_of_planted_ranks_up(found):
    gates = found.trajectory[-1]["gates"]

    assert max(gates["noise"]) < 0.1
    assert sorted(gates["left"])[-2] > 0.8
    assert sorted(gates["right"])[-2] > 0.8
    assert found.plan.dimensions["noise"] == 0
    assert min(found.plan.dimensions["left"], found.plan.dimensions["right"]) >= 2
    assert found.trajectory[-1]["dimensions"] == found.plan.dimensions


@pytest.mark.parametrize("budget", [8, 40, 112, 239])
def test_plans_of_all_budgets_come_from_one_search(found, budget):
    # Tables take 8, 64 and 8 parameters a column, and the small ones have the larger gates.
    assert found.plan_at(budget).parameters == min(48, budget // 8 * 8) + 64 * (max(0, budget - 48) // 64)


def test_searches_of_one_seed_are_the_same_and_a_budget_only_prunes_otherwise(planted):
    left, noise, right = planted.fields
    fields = (
        dataclasses.replace(left, table="side", min_dim=1),
        dataclasses.replace(noise, min_dim=1, max_dim=2),
        dataclasses.replace(right, table="side", min_dim=1),
    )

    def run(budget):
        options = {"method": "dimreg", "config": CONFIG, "model_config": FAST_MODEL}
        return search(fields, planted.batches(), parameter_budget=budget, **options)

    bounded, free = run(80), run(None)

    assert bounded.trajectory[-1]["gates"] == free.trajectory[-1]["gates"]
    assert bounded.plan == free.plan_at(80)
    assert bounded.plan.dimensions == {"left": 2, "noise": 1, "right": 2}
    assert bounded.plan.parameters == 80
    assert bounded.peak_table_bytes == 12 * (3 * 8 + 2 * 64)
    with pytest.raises(ValueError, match="min_dim of all fields take 72 parameters"):
        bounded.plan_at(71)
