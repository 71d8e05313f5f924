"""Cases that are finished are not run again; those that were interrupted leave nothing."""

import dataclasses
import os

import pytest

import keras_dimgrow as kd
from benchmarks.quality import cases
from benchmarks.quality.cases import Laboratory
from benchmarks.quality.npz import read_npz
from benchmarks.quality.runner import Schedule, run, training_seed
from benchmarks.quality.specs import parse_methods
from benchmarks.quality.store import Store


@pytest.fixture
def trained(monkeypatch):
    """The (dimensions, seed) of all trainings, which are not really done."""
    trained = []

    def retrain(plan, train_data, validation_data, *, config, model_config, seed):
        trained.append((tuple(plan.dimensions.values()), seed))
        return kd.TrainingResult(None, None, 3)

    monkeypatch.setattr(cases.kd, "retrain", retrain)
    monkeypatch.setattr(cases.kd, "evaluate", lambda model, batches: kd.Evaluation(0.75, 0.5, 128))
    monkeypatch.setattr(Laboratory, "_is_warm", True)
    monkeypatch.setattr(cases.keras.utils, "clear_session", lambda: None)  # there is nothing to clear
    return trained


@pytest.fixture
def laboratory(arrays, write_npz, tmp_path):
    return Laboratory(
        data=read_npz(write_npz(arrays)),
        store=Store(str(tmp_path / "out" / "cases")),
        batch_size=64,
        training=kd.TrainingConfig(),
        model=kd.ModelConfig(),
        report=lambda line: None,
    )


def make_plan(laboratory, **dimensions):
    return kd.EmbeddingPlan.from_dimensions(laboratory.data.fields, dimensions)


def test_equal_plans_are_trained_once_a_seed(laboratory, trained):
    plan = make_plan(laboratory, user=2, hour=4, noise=0)

    first = laboratory.train(plan, seed=0)

    assert laboratory.train(plan, seed=0) == first
    assert trained == [((2, 4, 0), 0)]
    laboratory.train(plan, seed=1)
    laboratory.train(make_plan(laboratory, user=2, hour=4, noise=1), seed=0)
    assert trained[1:] == [((2, 4, 0), 1), ((2, 4, 1), 0)]


@pytest.mark.parametrize(
    "change",
    [
        {"training": kd.TrainingConfig(max_epochs=3)},
        {"model": kd.ModelConfig(backbone="fm")},
        {"batch_size": 32},
    ],
)
def test_other_conditions_are_other_cases(laboratory, trained, change):
    plan = make_plan(laboratory, user=2, hour=2, noise=2)

    laboratory.train(plan, seed=0)
    dataclasses.replace(laboratory, **change).train(plan, seed=0)

    assert len(trained) == 2


def test_a_second_run_with_more_seeds_does_the_missing_cases_only(laboratory, trained):
    specs = parse_methods("uniform")
    first = run(laboratory, specs, Schedule([0.5], num_seeds=1, num_retrain_seeds=1))
    done = list(trained)

    second = run(laboratory, specs, Schedule([0.5], num_seeds=2, num_retrain_seeds=2))

    assert len(set(trained)) == len(trained)
    assert {seed for _, seed in done} == {0}
    assert {seed for _, seed in trained[len(done) :]} == {1, training_seed(1, 0), training_seed(1, 1)}
    assert set(second.find("uniform", 0.5).aucs) == {(0, 0), (0, 1), (1, 0), (1, 1)}
    assert set(first.find("uniform", 0.5).aucs) == {(0, 0)}


def test_an_interrupted_case_leaves_nothing_and_keeps_the_others(laboratory, trained, monkeypatch):
    plan = make_plan(laboratory, user=2, hour=2, noise=2)
    laboratory.train(plan, seed=0)

    def interrupt(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(cases.kd, "evaluate", interrupt)
    with pytest.raises(KeyboardInterrupt):
        laboratory.train(plan, seed=1)

    directory = laboratory.store._directory
    assert len(os.listdir(directory)) == 1
    laboratory.train(plan, seed=0)
    assert len(trained) == 2


def test_a_rule_that_does_not_fit_is_a_result_and_says_so(laboratory, trained):
    results = run(laboratory, parse_methods("uniform"), Schedule([0.05], num_seeds=1, num_retrain_seeds=1))

    assert results.find("uniform", 0.05) is None
    (unfit,) = results.unfit
    assert (unfit.method, unfit.budget) == ("uniform", 0.05)
    assert "does not fit: uniform: one dimension for each field takes 200 parameters" in unfit.note


def test_a_plan_with_chunks_is_trained_as_it_was_found_and_only_there(laboratory, trained):
    specs = parse_methods("uniform,adaembed:chunking.period=7,fiited:initial=uniform;min_rows=30")

    results = run(laboratory, specs, Schedule([0.5], num_seeds=1, num_retrain_seeds=1))

    assert results.find("adaembed:chunking.period=7", 0.5).rows[0].parameters <= 0.5 * 16 * 200
    budgets = {row.method: row.parameters for row in results.rows}
    assert budgets["fiited:initial=uniform;min_rows=30"] == 0.5 * 16 * 200
    # Beside the uniform ones; all have dimension 16 in name.
    assert trained.count(((16, 16, 16), 0)) == 3
    first = results.find("fiited:initial=uniform;min_rows=30", 0.5).rows[0]
    assert first.peak_embedding_bytes > 12 * first.parameters  # index and utilities, too


def test_search_and_early_stopping_get_different_halves(laboratory, monkeypatch):
    monkeypatch.setattr(Laboratory, "_is_warm", True)
    given = {}

    def search(fields, train_data, validation_data, **arguments):
        given["search"] = validation_data
        return kd.SearchResult(kd.EmbeddingPlan.uniform(fields, 1))

    def retrain(plan, train_data, validation_data, **arguments):
        given["stop"] = validation_data
        return kd.TrainingResult(None, None, 1)

    monkeypatch.setattr(cases.kd, "search", search)
    monkeypatch.setattr(cases.kd, "retrain", retrain)
    monkeypatch.setattr(
        cases.kd, "evaluate", lambda model, batches: given.update(test=batches) or kd.Evaluation(1, 0, 1)
    )
    (spec,) = parse_methods("uniform")

    laboratory.train(laboratory.plan(laboratory.search(spec, 0.5, 0)), 0)

    assert {key: sum(len(y) for _, y in batches) for key, batches in given.items()} == {
        **{"search": 50, "stop": 51, "test": 128}
    }
