"""The pipeline end to end, by its command line: killed, resumed, repeated, and its results used."""

import csv
import json
import os
import re
from pathlib import Path

import numpy as np
import pytest

from keras_dimgrow import EmbeddingPlan
from tests.pipeline.small_run import BUDGET, predict_in_other_process, run_command

KEYS = {
    *("plan", "parameters", "uniform_parameters", "auc", "uniform_auc", "log_loss", "uniform_log_loss", "blessed"),
    *("saved_model", "report", "seconds", "prediction", "uniform_dimension"),
    *("method", "parameter_budget", "note"),
}
NODES = {
    *("CsvExampleGen", "StatisticsGen", "SchemaGen", "ExampleValidator", "Transform", "DimSearch", "Trainer"),
    *("UniformTrainer", "LatestBlessedModel", "Evaluator", "UniformEvaluator", "Pusher"),
}


def read_rows(small_run, count):
    with open(small_run.data, newline="") as file:
        rows = [row for _, row in zip(range(count), csv.DictReader(file), strict=False)]
    return [{k: v for k, v in row.items() if v and k not in ("note", "bought")} for row in rows]


def test_a_killed_search_leaves_a_checkpoint_and_the_same_command_goes_on_from_it(small_run):
    assert small_run.killed.returncode < 0, small_run.killed.stdout
    assert len(small_run.checkpoints_at_kill) == 1
    assert small_run.resumed.returncode == 0, small_run.resumed.stderr
    assert re.search(r"search goes on from step [1-9]\d*", small_run.read_logs()[1])
    assert not list((small_run.root / "checkpoints").glob("*/search.npz"))


def test_json_has_every_result_and_the_numbers_agree_with_the_plan(small_run):
    summary = small_run.summary

    assert set(summary) == KEYS
    assert set(summary["seconds"]) == NODES
    assert set(summary["plan"]) == {"city name", "product/kind", "clicks", "price"}
    (plan_file,) = small_run.root.glob("artifacts/DimSearch/best_hyperparameters/*/plan.json")
    plan = EmbeddingPlan.load(str(plan_file))
    assert (summary["plan"], summary["parameters"]) == (plan.dimensions, plan.parameters)
    assert summary["uniform_parameters"] == 16 * sum(field.vocabulary_size for field in plan.fields)
    assert 0 < summary["parameters"] <= BUDGET * summary["uniform_parameters"]
    assert (summary["method"], summary["parameter_budget"]) == ("dimgrow", BUDGET)


def test_the_report_tells_the_search_from_its_first_look_though_it_was_killed(small_run):
    directory = Path(small_run.summary["report"]).parent
    records = [json.loads(line) for line in (directory / "trajectory.jsonl").read_text().splitlines()]

    steps = [record["step"] for record in records]
    assert steps == [steps[0] * look for look in range(1, len(steps) + 1)]
    assert (directory / "race.jsonl").read_text().count('"name": "found"') > 1
    assert "<h2>Race</h2>" in (directory / "report.html").read_text()


def test_the_model_learned_what_the_rows_say(small_run):
    summary = small_run.summary

    assert summary["auc"] > 0.7
    assert summary["uniform_auc"] > 0.7
    assert 0 < summary["log_loss"] < 0.69
    assert summary["blessed"] is True


def test_the_terminal_shows_results_and_no_noise_of_libraries(small_run):
    assert small_run.repeated.returncode == 0, small_run.repeated.stderr
    assert small_run.repeated.stderr == ""
    output = small_run.repeated.stdout
    for text in (
        "Embedding plan",
        "city name",
        "search      dimgrow, budget 0.25",
        "Plan against uniform",
        "AUC",
        "report",
        "SavedModel",
        "prediction",
        "log",
    ):
        assert text in output
    assert "absl" not in output
    assert "WARNING" not in output


def test_a_repeated_run_reuses_every_node_that_did_not_change(small_run):
    log = small_run.read_logs()[2]

    reused = set(
        re.findall(r"Component (\w+) is running\.(?=(?:(?!Component \w+ is running).)*cached execution)", log, re.S)
    )
    # The model of the run before is now the baseline to compare with.
    assert reused >= NODES - {"LatestBlessedModel", "Evaluator", "Pusher"}


def test_the_saved_model_gives_the_keras_models_numbers_where_our_code_is_missing(small_run, tmp_path):
    import keras
    import tensorflow as tf
    import tensorflow_transform as tft

    rows = [*read_rows(small_run, 20), {}, {"city name": "nowhere", "price": 1e9}]
    (graph,) = small_run.root.glob("artifacts/Transform/transform_graph/*")
    layer = tft.TFTransformOutput(str(graph)).transform_features_layer()
    model = keras.models.load_model(next(small_run.root.glob("artifacts/Trainer/model_run/*/model.keras")))
    kinds = {"city name": str, "product/kind": str, "clicks": int, "price": float}
    dtypes = {str: tf.string, int: tf.int64, float: tf.float32}
    raw = {
        name: tf.sparse.from_dense(tf.zeros([0, 1], dtypes[kind]))
        if not (cells := [(i, kind(row[name])) for i, row in enumerate(rows) if name in row])
        else tf.SparseTensor(
            [[i, 0] for i, _ in cells], tf.constant([v for _, v in cells], dtypes[kind]), [len(rows), 1]
        )
        for name, kind in kinds.items()
    }
    expected = model.predict_on_batch({name: np.array(ids) for name, ids in layer(raw).items()}).ravel()

    served = predict_in_other_process(small_run.summary["saved_model"], rows, tmp_path)

    np.testing.assert_allclose(served, expected, atol=1e-5)


def test_the_printed_prediction_is_the_saved_models(small_run, tmp_path):
    prediction = small_run.summary["prediction"]

    (served,) = predict_in_other_process(small_run.summary["saved_model"], [prediction["row"]], tmp_path)

    assert served == pytest.approx(prediction["probability"], abs=1e-6)


def test_serving_check_accepts_the_exported_model(small_run, tmp_path):
    result = run_command("serving", "check", small_run.summary["saved_model"], directory=tmp_path)

    assert result.returncode == 0, result.stdout + result.stderr
    for signature in ("serving_default", "predict", "classify", "regress", "transform_features"):
        assert re.search(rf"{signature} .* ok: .*Session, tf.saved_model.load, saved_model_cli", result.stdout)
    assert result.stdout.count("off the Keras model") == 5
    assert result.stdout.count("RunInference") == 3


def test_the_exported_model_carries_its_plan_and_a_model_card(small_run):
    assets = Path(small_run.summary["saved_model"], "assets.extra", "plan.json")

    assert EmbeddingPlan.load(str(assets)).dimensions == small_run.summary["plan"]
    card = assets.with_name("model_card.md").read_text()
    assert "probability of `bought`" in card
    assert all(f"| {name} |" in card for name in small_run.summary["plan"])
    assert f"| {small_run.summary['parameters']:,} |" in card


def test_the_exported_model_holds_the_vocabularies_of_its_fields_only(small_run):
    vocabularies = {path.name for path in Path(small_run.summary["saved_model"], "assets").iterdir()}

    kept = {re.sub(r"\W", "_", name) for name, dimension in small_run.summary["plan"].items() if dimension}
    assert {name.split("_", 1)[1] for name in vocabularies} == kept


def test_the_report_is_one_page_without_external_links(small_run):
    page = Path(small_run.summary["report"]).read_text()

    assert "product/kind" in page
    assert not re.findall(r"""(?:src|href)\s*=\s*["']?(?:https?:)?//""", page)


def test_nothing_of_the_run_lies_outside_its_root(small_run):
    left = {path.name for path in small_run.root.parent.iterdir()}

    assert left == {"rows.csv", "shop.yaml", "root", "killed.log"}


def test_a_summary_without_a_run_says_how_to_run(tmp_path):
    from pipeline.config import load_config
    from pipeline.dag import Locations
    from pipeline.summary import summarise_run

    with pytest.raises(FileNotFoundError, match="python -m pipeline run"):
        summarise_run(load_config("adult"), Locations("data", "csv", str(tmp_path)))


def test_metadata_is_in_the_root(small_run):
    assert os.path.getsize(small_run.root / "metadata.sqlite") > 0
    assert json.loads(small_run.resumed.stdout)["report"].startswith(str(small_run.root))
