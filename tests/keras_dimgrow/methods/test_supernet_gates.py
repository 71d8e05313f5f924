"""Shuffle gates on full-size tables."""

import dataclasses

import keras
import numpy as np
import pytest

from keras_dimgrow import Field, GateConfig, ModelConfig, search
from keras_dimgrow.methods.problem import SearchProblem
from keras_dimgrow.methods.supernet import prune
from keras_dimgrow.methods.supernet_gates import ShuffledSupernetEmbedding, SupernetGatesConfig
from keras_dimgrow.steps import steps_per_pass

MODEL = ModelConfig(adapter_width=8, hidden_units=(8,))
FAST_MODEL = ModelConfig(backbone="fm", adapter_width=2)  # where it only matters that there is one
CONFIG = SupernetGatesConfig(dimension=3, epochs=2, gate=GateConfig(penalty=3e-3, cost_exponent=0.0))


@pytest.fixture(scope="module")
def found(many_planted):
    """What a search without a budget found, and its records as they came."""
    records = []
    result = search(
        many_planted.fields,
        many_planted.batches(),
        method="supernet_gates",
        config=CONFIG,
        model_config=MODEL,
        on_check=records.append,
    )
    return result, records


def layer_of(fields, config=CONFIG, **options):
    layer = ShuffledSupernetEmbedding(config, fields, adapter_width=4, adapter="joint", seed=0, **options)
    layer.build(None)
    return layer


def test_gates_of_a_useless_field_go_down_and_those_of_planted_ranks_up(found):
    result, _ = found
    gates = result.trajectory[-1]["gates"]

    assert max(gates["noise"]) < 0.2
    assert min(max(gates["left"]), max(gates["right"])) > 0.9
    assert result.plan.dimensions["noise"] == 0
    assert min(result.plan.dimensions["left"], result.plan.dimensions["right"]) >= 2


def test_the_records_are_one_a_pass_and_the_same_as_those_of_on_check(found):
    result, records = found

    assert result.trajectory == records
    assert [record["step"] for record in records] == [256, 512]
    assert records[-1]["dimensions"] == result.plan.dimensions
    assert records[-1]["parameters"] == result.plan.parameters
    assert records[-1]["loss"] < records[0]["loss"]


def test_the_peak_is_every_full_table_with_two_slots(found):
    assert found[0].peak_table_bytes == 3 * 4 * 3 * (8 + 64 + 8)


def test_searches_of_one_seed_are_the_same_and_a_budget_only_prunes_otherwise(planted):
    def run(max_parameters, seed):
        options = {"method": "supernet_gates", "config": CONFIG, "model_config": FAST_MODEL, "seed": seed}
        return search(planted.fields, planted.batches(), parameter_budget=max_parameters, **options)

    free, bounded, other = run(None, 0), run(24, 0), run(None, 1)

    assert bounded.plan.parameters == 24
    assert bounded.plan == bounded.plan_at(24) == free.plan_at(24)
    assert bounded.trajectory[-1]["gates"] == free.trajectory[-1]["gates"]
    assert bounded.trajectory[-1]["loss"] == free.trajectory[-1]["loss"] != other.trajectory[-1]["loss"]


@pytest.mark.parametrize("budget", [8, 24, 70, 239])
def test_plans_of_all_budgets_come_from_one_search(found, budget):
    plan = found[0].plan_at(budget)

    # Tables take 8, 64 and 8 parameters a column, and the small ones have the higher gates.
    assert plan.parameters == min(48, budget // 8 * 8) + 64 * (max(0, budget - 48) // 64)
    assert found[0].note is None


def test_a_plan_of_the_whole_supernet_says_so(planted):
    layer = layer_of(planted.fields)
    problem = SearchProblem(fields=planted.fields, train_data=planted.batches())

    result = prune(problem, layer, [np.ones(3)] * 3, 240, 0.0, [])

    assert result.plan.parameters == 240
    assert "whole supernet" in result.note


def test_scores_that_are_not_finite_are_refused(planted):
    problem = SearchProblem(fields=planted.fields, train_data=planted.batches())

    with pytest.raises(ValueError, match=r"training diverged\. Lower learning_rate"):
        prune(problem, layer_of(planted.fields), [np.full(3, np.nan)] * 3, 240, 0.0, [])


def test_a_budget_that_holds_no_column_is_refused_before_the_training(planted, monkeypatch):
    monkeypatch.setattr(keras.Model, "fit", lambda *args, **kwargs: pytest.fail("trained"))

    with pytest.raises(ValueError, match="smallest table takes 8 parameters"):
        search(planted.fields, planted.batches(), method="supernet_gates", parameter_budget=7, config=CONFIG)


@pytest.mark.parametrize(("make", "message"), [("repeat", "repeats for ever"), ("empty", "has no batches")])
def test_training_data_without_an_end_or_a_beginning_are_refused(planted, make, message):
    data = planted.batches().repeat() if make == "repeat" else planted.batches().take(0)

    with pytest.raises(ValueError, match=f"train_data must be one pass .* {message}"):
        search(planted.fields, data, method="supernet_gates", config=CONFIG)


def test_batches_are_counted_where_the_dataset_does_not_know(planted):
    assert steps_per_pass(planted.batches()) == 4
    assert steps_per_pass(planted.batches().filter(lambda ids, labels: True)) == 4


def test_gates_in_training_mix_with_shuffled_columns_and_scale_them_in_inference():
    layer = layer_of([Field(name="a", vocabulary_size=6)])
    layer.gate.assign([0.0, 0.4, -0.4])
    inputs = {"a": np.arange(6)}
    table, kernel = layer.tables_by_field()["a"], layer.kernel.numpy()
    gates = 1 / (1 + np.exp(-5 * np.array([0.0, 0.4, -0.4])))

    np.testing.assert_allclose(layer(inputs), (table * gates) @ kernel, atol=1e-7)
    # Shuffles change no mean over the batch.
    trained = layer(inputs, training=True)
    np.testing.assert_allclose(np.mean(trained, 0), table.mean(0) @ kernel, atol=1e-7)
    assert np.abs(trained - table @ kernel).max() > 1e-5


def test_the_penalty_is_equation_2_and_spares_what_is_not_searched():
    fields = [Field(name="a", vocabulary_size=6), Field(name="b", vocabulary_size=18, min_dim=2, max_dim=2)]
    gate = GateConfig(penalty=0.1, cost_exponent=1.0)

    plain = layer_of(fields, SupernetGatesConfig(dimension=3, gate=GateConfig(penalty=0.1, cost_exponent=0.0)))
    decayed = layer_of(fields, SupernetGatesConfig(dimension=3, gate=gate, use_decay=True))
    for layer in (plain, decayed):
        layer({"a": np.zeros(4, int), "b": np.zeros(4, int)}, training=True)

    assert float(plain.losses[0]) == pytest.approx(0.1 * 3 * 0.5)
    assert float(decayed.losses[0]) == pytest.approx(0.1 * 0.5 * 0.5 * (1 / 2 + 1 / 3 + 1 / 4))
    np.testing.assert_array_equal(plain.gates()[3:], [1.0, 1.0])


def test_fields_of_one_table_share_gates_and_limits_of_fields_hold(planted):
    left, noise, right = planted.fields
    fields = (
        dataclasses.replace(left, table="side", min_dim=1),
        dataclasses.replace(noise, min_dim=1, max_dim=2),
        dataclasses.replace(right, table="side", min_dim=1),
        Field(name="again", vocabulary_size=8, min_dim=5),
    )
    data = planted.batches().map(lambda ids, labels: (ids | {"again": ids["left"]}, labels))
    options = {"config": CONFIG, "model_config": FAST_MODEL}

    result = search(fields, data, method="supernet_gates", parameter_budget=120, **options)
    gates, dims = result.trajectory[-1]["gates"], result.plan.dimensions

    assert gates["left"] == gates["right"]
    assert dims["left"] == dims["right"]
    assert dims == {"left": 2, "noise": 1, "right": 2, "again": 5}
    assert result.plan.parameters == 120
    assert result.peak_table_bytes == 12 * (3 * 8 + 2 * 64 + 5 * 8)


def test_each_column_of_q_has_the_gate_of_its_column_in_its_table(planted):
    left, noise, right = planted.fields
    fields = (
        dataclasses.replace(left, table="side"),
        dataclasses.replace(noise, max_dim=2),
        dataclasses.replace(right, table="side"),
    )

    # Tables are fused by dimension: those of two columns come first in Q.
    assert layer_of(fields).column_of_q().tolist() == [3, 4, 0, 1, 2, 0, 1, 2]
