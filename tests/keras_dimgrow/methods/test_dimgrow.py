"""The search by utilities: what it finds, its budgets, and that it is the same each time and goes on where it was."""

import dataclasses

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_dimgrow import (
    DimGrowConfig,
    Field,
    ModelConfig,
    TrainingConfig,
    evaluate,
    retrain,
    search,
    transfer_model,
)
from keras_dimgrow.methods.dimgrow import MIN_USED_SHARE
from tests.keras_dimgrow.conftest import SEED

MODEL = ModelConfig(adapter_width=8, hidden_units=(8,))
QUICK = DimGrowConfig(max_steps=96, num_looks=12, learning_rate=0.03, race=False)
RACED = dataclasses.replace(QUICK, race=True)
TINY = dataclasses.replace(QUICK, max_steps=16, num_looks=8)
SIZES = {"left": 8, "noise": 64, "right": 8}
ALL = sum(SIZES.values())  # parameters of one dimension for each field


@pytest.fixture(scope="module")
def splits(many_planted):
    """20,480 rows to train on, always in the same order, and 4,096 others to look at."""
    data = many_planted.batches(512, is_shuffled=False)
    return data.take(40), data.skip(120)


@pytest.fixture(scope="module")
def find(many_planted, splits):
    """Searches of the planted fields, each run once for all tests that ask for it."""
    found = {}

    def run(budget=None, config=QUICK, model_config=MODEL, **bounds):
        key = (budget, config, model_config, repr(bounds))
        if key not in found:
            fields = [dataclasses.replace(field, **bounds.get(field.name, {})) for field in many_planted.fields]
            found[key] = search(
                fields, *splits, parameter_budget=budget, config=config, model_config=model_config, seed=1
            )
        return found[key]

    return run


def dims_of(result) -> list[list[int]]:
    return [list(record["dimensions"].values()) for record in result.trajectory]


# What a search finds.


@pytest.mark.parametrize("backbone", ["wide_deep", "fm"])
def test_a_useless_field_gets_nothing_and_an_interaction_of_rank_2_gets_its_dimensions(many_planted, backbone):
    data = many_planted.batches(512, is_shuffled=False)
    splits = data.take(40), data.skip(96)  # a useless field is proven so by 16,384 held-out rows, not by 4,096
    model_config = dataclasses.replace(MODEL, backbone=backbone)
    result = search(many_planted.fields, *splits, parameter_budget=200, config=QUICK, model_config=model_config, seed=1)

    dimensions = result.plan.dimensions
    assert dimensions["noise"] == 0
    assert min(dimensions["left"], dimensions["right"]) >= 2
    assert result.trajectory[-1]["validation_loss"] < 0.55 < result.trajectory[0]["validation_loss"]


def test_dimgrow_is_what_a_search_does_by_default(many_planted, splits, find):
    named = search(
        *(many_planted.fields, *splits),
        method="dimgrow",
        parameter_budget=200,
        config=QUICK,
        model_config=MODEL,
        seed=1,
    )

    assert named.plan == find(200).plan
    assert "gains" in named.trajectory[0]


def test_a_record_says_what_a_look_measured_and_what_it_changed(find):
    result = find(200)

    assert [record["step"] for record in result.trajectory] == list(range(8, 97, 8))
    before = {"left": 1, "noise": 1, "right": 1}
    for record in result.trajectory:
        after = record["dimensions"]
        assert {name: len(gains) for name, gains in record["gains"].items()} == before
        assert record["parameters"] == sum(SIZES[name] * dim for name, dim in after.items())
        assert record["table_bytes"] == 12 * record["parameters"]
        assert record["total_dimensions"] == sum(after.values())
        changed = {
            name: "grow" if after[name] > before[name] else "drop" for name in after if after[name] != before[name]
        }
        assert {event["field"]: event["action"] for event in record["events"]} == changed
        assert 0.5 <= record["validation_auc"] < 1
        before = after
    actions = {event["action"] for record in result.trajectory for event in record["events"]}
    assert actions == {"grow", "drop"}


def test_min_dim_and_max_dim_hold_in_the_plan_and_at_every_look(find):
    result = find(400, noise={"min_dim": 2}, left={"max_dim": 1})

    for dims in [*dims_of(result), list(result.plan.dimensions.values())]:
        assert dims[0] <= 1
        assert dims[1] >= 2


def test_a_search_ends_when_held_out_loss_stopped_improving():
    rng = np.random.default_rng(0)
    fields = [Field(name=name, vocabulary_size=300) for name in "ab"]
    data = tf.data.Dataset.from_tensor_slices(
        ({field.name: rng.integers(0, 300, 1000) for field in fields}, rng.integers(0, 2, 1000).astype("float32"))
    ).batch(100)
    config = dataclasses.replace(QUICK, num_looks=16, patience_looks=2)

    result = search(fields, data.take(5), data.skip(5), parameter_budget=0.5, config=config, model_config=MODEL)

    losses = [record["validation_loss"] for record in result.trajectory]
    assert result.has_converged
    assert len(losses) == int(np.argmin(losses)) + 3 < 16
    assert result.plan.parameters >= 300


def test_a_search_ends_at_its_last_step_otherwise(find):
    assert not find(200).has_converged


@pytest.mark.parametrize(("max_steps", "num_looks", "expected"), [(59, 8, 8), (5, 8, 5), (16, 8, 8)])
def test_a_search_takes_max_steps_at_most_and_changes_nothing_at_its_last_look(
    many_planted, splits, max_steps, num_looks, expected
):
    config = dataclasses.replace(QUICK, max_steps=max_steps, num_looks=num_looks)

    result = search(many_planted.fields, *splits, parameter_budget=400, config=config, model_config=MODEL)

    assert result.trajectory[-1]["step"] <= max_steps
    assert len(result.trajectory) == expected
    assert result.trajectory[-1]["events"] == []


# Budgets.


@pytest.mark.parametrize(("budget", "kappa"), [(8, 1.0), (30, 1.5), (70, 1.0), (ALL, 1.5), (200, 1.0), (200, 1.5)])
def test_plan_and_peak_stay_within_the_budget_even_where_one_dimension_each_does_not_fit(find, budget, kappa):
    result = find(budget, dataclasses.replace(TINY, kappa=kappa))

    assert 0 < result.plan.parameters <= budget
    held = max(record["parameters"] for record in result.trajectory)
    assert max(held, result.plan.parameters) <= result.peak_table_bytes / 12 <= kappa * budget


def test_plans_of_smaller_budgets_come_from_the_same_run(find):
    result = find(200)

    assert result.plan_at(200) == result.plan_at(result.plan.parameters) == result.plan
    sizes = []
    for budget in (8, 16, 24, 40, 0.03, "140B"):
        plan = result.plan_at(budget)
        sizes.append(plan.parameters)
        assert plan.fields[0].vocabulary_size == 8
    assert all(size <= most for size, most in zip(sizes, (8, 16, 24, 40, 38, 35), strict=True))
    assert sizes[1] == 16
    with pytest.raises(ValueError, match=r"smallest field takes 8 parameters; received a budget of 7. Raise"):
        result.plan_at(7)


def test_a_plan_of_a_smaller_budget_takes_what_gains_most(find):
    assert set(find(200).plan_at(16).dimensions.values()) <= {0, 1, 2}
    assert find(200).plan_at(32).dimensions == {"left": 2, "noise": 0, "right": 2}


def test_a_budget_is_used_and_one_that_cannot_be_is_explained(find):
    assert find(32).plan.parameters > MIN_USED_SHARE * 32
    assert find(32).note is None
    at_most = find(ALL * 16, noise={"max_dim": 1})
    assert at_most.plan.dimensions == {"left": 16, "noise": 1, "right": 16}
    assert at_most.note == (
        "The plan takes 25% of the budget: its fields have 16 dimensions or their max_dim, other fields would not help."
    )


@pytest.mark.parametrize(
    ("budget", "bounds", "message"),
    [
        (7, {}, r"dimgrow: one dimension of the smallest field takes 8 parameters; received a budget of 7"),
        (143, {"noise": {"min_dim": 2}, "left": {"min_dim": 2}}, r"fields' min_dim take 144 parameters; .* of 143"),
    ],
)
def test_a_budget_for_nothing_is_refused_before_training(many_planted, find, budget, bounds, message):
    with pytest.raises(ValueError, match=message + r". Raise parameter_budget"):
        find(budget, **bounds)


def test_a_search_without_held_out_rows_is_refused(many_planted, splits):
    with pytest.raises(
        ValueError, match=r"method='dimgrow'\) judges dimensions on held-out rows. Pass validation_data"
    ):
        search(many_planted.fields, splits[0], parameter_budget=200, config=QUICK, model_config=MODEL)


# The race.


def test_a_raced_plan_is_within_the_budget_and_no_worse_than_the_rules(find):
    result = find(100, RACED)

    names = {record["name"] for record in result.race}
    assert "found" in names
    assert names & {"uniform", "mixed_dimension", "log_vocabulary"}
    assert result.plan.parameters <= 100
    assert all(record["parameters"] <= 100 for record in result.race)
    assert result.peak_table_bytes <= 1.5 * 12 * 100
    assert result.race_seconds > 0
    # Nothing but the race is different.
    assert dims_of(result) == dims_of(find(100))
    assert find(100).race == []
    assert find(100).race_seconds == 0


def test_a_plan_that_won_the_race_comes_without_a_model_and_says_so(find):
    result, unraced = find(100, RACED), find(100)

    assert (result.model is None) == (result.plan != unraced.plan)
    assert (result.model is None) == ("The race replaced what the search had found" in (result.note or ""))
    assert unraced.model.embedding.plan() == unraced.plan


def test_without_a_budget_the_plan_is_the_smallest_within_the_tolerance_of_uniform_16(find):
    aucs, plans = {}, {}
    for tolerance in (0.0, 1.0):
        result = find(None, dataclasses.replace(RACED, tolerance=tolerance))
        plans[tolerance] = result.plan
        aucs = {record["name"]: (record["auc"], record["parameters"]) for record in result.race}
        good = [size for auc, size in aucs.values() if auc >= (1 - tolerance) * aucs["uniform"][0]]
        assert result.plan.parameters == min(good)
        assert f"with {result.plan.parameters} parameters" in result.note
        assert result.note.startswith("Held-out AUC in the race: ")
        assert result.note.endswith(f"{aucs['uniform'][0]:.4f} with uniform 16.")
    assert aucs["uniform"][1] == 16 * ALL
    assert plans[1.0].parameters <= plans[0.0].parameters < ALL * 16


# The same each time.


def assert_same_search(result, expected):
    """Equal but for what clock and machine say, and the last bits of sums."""
    assert result.plan == expected.plan
    assert result.peak_table_bytes == expected.peak_table_bytes
    assert (result.has_converged, result.note) == (expected.has_converged, expected.note)
    assert dims_of(result) == dims_of(expected)
    for record, other in zip(result.trajectory, expected.trajectory, strict=True):
        for key in ("loss", "validation_loss", "validation_auc"):
            assert record[key] == pytest.approx(other[key], abs=1e-6)
        for key in ("step", "events", "parameters"):
            assert record[key] == other[key]
        for name, gains in record["gains"].items():
            np.testing.assert_allclose(gains, other["gains"][name], rtol=1e-2, atol=1e-6)
    for key in ("name", "round", "parameters", "is_eliminated"):
        assert [record[key] for record in result.race] == [record[key] for record in expected.race]
    for plan in (
        (result, expected),
        *(tuple(each.plan_at(budget) for each in (result, expected)) for budget in (16, 40)),
    ):
        assert getattr(plan[0], "plan", plan[0]) == getattr(plan[1], "plan", plan[1])


RACE = {"parameter_budget": 100, "config": dataclasses.replace(RACED, max_steps=32, num_looks=8), "seed": 1}


@pytest.fixture(scope="module")
def run(planted):
    """A small search with a race, over shuffled rows and a backbone with dropout."""

    def run(is_shuffled=True, **options):
        options = RACE | {"model_config": dataclasses.replace(MODEL, dropout=0.1)} | options
        return search(planted.fields, planted.batches(128, is_shuffled), planted.batches(512, False), **options)

    return run


@pytest.fixture(scope="module")
def uninterrupted(run):
    keras.utils.set_random_seed(SEED)  # which shuffles of tf.data follow
    return run()


def test_the_same_seed_gives_the_same_search_which_neither_reads_nor_sets_global_seeds(run):
    results, draws = [], []
    for seed in (1, 2):
        keras.utils.set_random_seed(seed)
        results.append(run(is_shuffled=False))  # a shuffle of tf.data follows the global seed
        draws.append(np.random.rand())

    assert_same_search(*results)
    assert draws == [np.random.RandomState(seed).rand() for seed in (1, 2)]


def test_another_seed_gives_another_search(run, uninterrupted):
    other = run(seed=2, config=dataclasses.replace(RACE["config"], race=False))

    assert [record["loss"] for record in other.trajectory] != [record["loss"] for record in uninterrupted.trajectory]


class KilledError(Exception):
    """Stands for the end of the process."""


def test_a_search_that_was_killed_at_its_first_an_inner_and_its_last_look_goes_on_as_if_it_had_not_been(
    run, uninterrupted, tmp_path
):
    steps = []

    def kill_at(killed_at):
        def on_check(record):
            steps.append(record["step"])
            if record["step"] == killed_at:
                raise KilledError

        return on_check

    for killed_at in (4, 16, 32):
        with pytest.raises(KilledError):
            run(checkpoint_directory=str(tmp_path), on_check=kill_at(killed_at))

    result = run(checkpoint_directory=str(tmp_path), on_check=kill_at(None))

    assert_same_search(result, uninterrupted)
    # Each goes on at the look that was not saved; those before came from the checkpoint.
    assert steps == [4, *range(4, 17, 4), *range(16, 33, 4), 32]
    seconds = [record["seconds"] for record in result.trajectory]
    assert seconds == sorted(seconds)


def test_a_search_that_was_finished_gives_its_result_again_without_training(run, tmp_path):
    # Not shuffled: the race would get the order of the pass after those that the search took.
    options = {"is_shuffled": False, "checkpoint_directory": str(tmp_path)}
    finished, records = run(**options), []

    result = run(**options, on_check=records.append)

    assert records == []
    assert_same_search(result, finished)


def test_a_checkpoint_of_the_other_method_is_refused(run, tmp_path):
    run(checkpoint_directory=str(tmp_path), config=dataclasses.replace(TINY, max_steps=2, num_looks=1))

    with pytest.raises(ValueError, match=r"search.npz is a checkpoint of another model .* Delete it, or name another"):
        run(checkpoint_directory=str(tmp_path), method="dimgrow_paper", config=None)


# Fields of all kinds, and what comes after a search.

KINDS = (
    Field(name="left", vocabulary_size=8, table="shared"),
    Field(name="noise", vocabulary_size=64),
    Field(name="history", vocabulary_size=8, table="shared", combiner="mean", missing_id=-1, weights="scores"),
    Field(name="fixed", vocabulary_size=5, min_dim=2, max_dim=2),
    Field(name="right", vocabulary_size=8, min_dim=1),
)


@pytest.fixture(scope="module")
def kinds(planted):
    """Rows of all kinds of fields, and the search over them with an adapter per field."""
    rng = np.random.default_rng(4)
    num_rows = len(planted.labels)
    ids = planted.ids | {
        "history": rng.integers(-1, 8, (num_rows, 3)),
        "scores": rng.uniform(0.1, 2, (num_rows, 3)).astype("float32"),
        "fixed": rng.integers(0, 5, num_rows),
    }
    data = tf.data.Dataset.from_tensor_slices((ids, planted.labels)).batch(125)
    model = ModelConfig(backbone="deepfm", adapter_width=4, hidden_units=(4,))
    result = search(KINDS, data.take(6), data.skip(6), parameter_budget=90, config=QUICK, model_config=model, seed=1)
    return ids, data, model, result


def test_shared_and_multi_valued_fields_have_the_dimension_of_their_table(kinds):
    result = kinds[-1]

    for dims in (*(record["dimensions"] for record in result.trajectory), result.plan.dimensions):
        assert dims["left"] == dims["history"]
        assert dims["fixed"] == 2
        assert dims["right"] >= 1
    d = result.plan.dimensions
    assert result.plan.parameters == 8 * d["left"] + 64 * d["noise"] + 5 * 2 + 8 * d["right"] <= 90
    assert d["left"] >= 1
    assert list(result.trajectory[0]["gains"]) == [field.name for field in KINDS]
    assert result.trajectory[0]["gains"]["left"] == result.trajectory[0]["gains"]["history"]


def test_the_model_of_a_search_has_its_plan_and_predicts_as_its_transfer(kinds):
    ids, _, _, result = kinds

    model = transfer_model(result.model)

    assert result.model.embedding.plan() == model.embedding.plan == result.plan
    expected = result.model.predict_on_batch(ids)
    np.testing.assert_allclose(model.predict_on_batch(ids), expected, atol=1e-5)
    assert np.ptp(expected) > 1e-2


def test_fine_tuning_starts_where_the_search_ended(kinds):
    _, data, model_config, result = kinds
    start = evaluate(result.model, data).log_loss

    same = retrain(
        result.plan,
        data,
        data,
        config=TrainingConfig(max_epochs=1, learning_rate=1e-9),
        model_config=model_config,
        transfer_from=result.model,
    )

    assert same.validation.log_loss == pytest.approx(start, abs=1e-5)
