"""Two runs on rows that drift: the second keeps the plan of the first, and goes on from its ids and weights."""

import csv
import json
import random
from pathlib import Path

import keras
import numpy as np
import pytest

from keras_dimgrow import EmbeddingPlan
from pipeline.earlier_model import vocabularies_of
from pipeline.vocabularies import read_vocabulary
from tests.pipeline.small_run import run_command

pytestmark = pytest.mark.slow

CONFIG = """
name: drift
data: {reader: csv, label: bought}
features: {categorical: [city name, kind], integer: [clicks]}
search: {parameter_budget: 0.25, settings: {epochs: 4, num_looks: 6}}
training: {max_epochs: 6}
model: {hidden_units: [16], adapter_width: 16}
batch_size: 64
evaluation: {max_auc_drop: 0.1} # of 250 test rows
compare_with_uniform: true
serving: {infra_validation: "off", warmup_records: 0, storage: int8}
"""
GONE, STAYED, CAME = ([f"city {i}" for i in ids] for ids in (range(5), range(5, 20), range(20, 25)))


def write_rows(path: Path, cities: list[str], seed: int) -> None:
    rng = random.Random(seed)
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["city name", "kind", "clicks", "bought"])
        for _ in range(2500):
            city, kind, clicks = rng.choice(cities), rng.choice(["book", "toy", "food"]), int(rng.expovariate(0.1))
            is_bought = rng.random() < 0.15 + 0.5 * (int(city.split()[1]) % 3 == 0) + 0.25 * (kind == "toy")
            writer.writerow([city, kind, clicks, int(is_bought)])


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """(root, [summary of each run])."""
    directory = tmp_path_factory.mktemp("drift")
    (directory / "drift.yaml").write_text(CONFIG)
    write_rows(directory / "first.csv", GONE + STAYED, seed=0)
    write_rows(directory / "second.csv", STAYED + CAME, seed=1)
    summaries = []
    for data, method in (("first.csv", "dimgrow"), ("second.csv", "previous")):
        arguments = ["--config", directory / "drift.yaml", "--data", directory / data, "--root", directory / "root"]
        # What would be needed of an earlier model is kept whatever the setting: the first run has none to go on from.
        arguments += ["--set", "warm_start=weights", "--set", f"search.method={method}"]
        if method == "previous":  # with a budget, tables that outgrew it would give dimensions up
            arguments += ["--set", "search.settings={}", "--set", "search.parameter_budget=null"]
        finished = run_command("pipeline", "run", *arguments, "--json", directory=directory)
        assert finished.returncode == 0, finished.stderr
        summaries.append(json.loads(finished.stdout))
    return directory / "root", summaries


def artifacts(root: Path, name: str) -> list[Path]:
    """Of the first run, then of the second."""
    return sorted((root / "artifacts" / name).iterdir(), key=lambda path: int(path.name))


@pytest.fixture(scope="module")
def models(runs):
    return [keras.saving.load_model(path / "continuation/model.keras") for path in artifacts(runs[0], "Trainer/model")]


@pytest.fixture(scope="module")
def vocabularies(runs):
    """Column -> values, of each run."""
    found = [vocabularies_of(str(path / "continuation")) for path in artifacts(runs[0], "Trainer/model")]
    return [{column: read_vocabulary(path) for column, path in paths.items()} for paths in found]


def test_known_values_keep_their_ids_also_those_that_are_gone_and_new_ones_are_appended(vocabularies):
    before, now = (each["city name"] for each in vocabularies)

    assert {value.decode() for value in before} == {"<missing>", *GONE, *STAYED}
    assert now[: len(before)] == before
    assert {value.decode() for value in now[len(before) :]} == set(CAME)


def test_the_last_blessed_model_is_the_plans_and_not_the_uniform_one_beside_it(runs):
    root, summaries = runs
    trained = artifacts(root, "Trainer/model")

    metrics = [json.loads((path / "metrics.json").read_text()) for path in artifacts(root, "Trainer/model_run")]
    assert all(summary["blessed"] for summary in summaries)
    assert metrics[0]["base_model"] is None
    assert metrics[1]["base_model"] == str(trained[0] / "Format-Serving")
    assert metrics[1]["num_new_values"]["city name"] == len(CAME)


def test_a_value_that_disappeared_keeps_its_vector_through_training(models, vocabularies):
    """Only the rows of a batch are trained: of values without rows the vectors stay as they were, to the bit."""
    before, now = (model.embedding.tables_by_field()["city name"] for model in models)
    ids = [vocabularies[0]["city name"].index(value.encode()) for value in GONE]

    np.testing.assert_array_equal(now[ids], before[ids])
    stayed = [vocabularies[0]["city name"].index(value.encode()) for value in STAYED]
    assert (now[stayed] != before[stayed]).any(axis=1).all()


def test_the_tables_have_a_row_for_each_value_and_the_second_plan_counts_them(runs, models, vocabularies):
    plans = [
        EmbeddingPlan.load(str(path / "plan.json")) for path in artifacts(runs[0], "DimSearch/best_hyperparameters")
    ]

    for plan, model, values in zip(plans, models, vocabularies, strict=True):
        sizes = {field.name: field.vocabulary_size for field in plan.fields}
        assert sizes == {column: len(lines) + 1 for column, lines in values.items()}
        assert model.embedding.plan == plan
    assert plans[1].dimensions == plans[0].dimensions


def test_both_models_learned_what_their_rows_say(runs):
    assert all(summary["auc"] > 0.7 for summary in runs[1])
