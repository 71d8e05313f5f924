"""The pipeline end to end, by its command line: killed, resumed, repeated, and its results used."""

import csv
import json
import os
import re
from pathlib import Path

import numpy as np
import pytest

from keras_dimgrow import EmbeddingPlan, with_storage
from tests.pipeline.small_run import BUDGET, STORAGE, WARMUP_RECORDS, predict_in_other_process, run_command

KEYS = {
    *("plan", "parameters", "uniform_parameters", "auc", "uniform_auc", "log_loss", "uniform_log_loss", "blessed"),
    *("saved_model", "report", "seconds", "prediction", "uniform_dimension"),
    *("num_rows", "num_skipped_rows", "method", "parameter_budget", "note"),
    *("warmup_records", "infra_validation", "storage"),
}
NODES = {
    *("CsvExampleGen", "StatisticsGen", "SchemaGen", "ExampleValidator", "Transform", "DimSearch", "Trainer"),
    *("UniformTrainer", "LatestBlessedModel", "Evaluator", "UniformEvaluator", "Pusher"),
}


def read_rows(small_run, count):
    with open(small_run.data, newline="") as file:
        rows = [row for _, row in zip(range(count), csv.DictReader(file), strict=False)]
    return [{k: v for k, v in row.items() if v and k not in ("note", "bought")} for row in rows]


@pytest.fixture(scope="module")
def served(small_run, tmp_path_factory):
    """(rows, what the SavedModel says of them where our code is missing); the last row is the printed prediction's."""
    rows = [
        *read_rows(small_run, 20),
        {},
        {"city name": "nowhere", "price": 1e9},
        small_run.summary["prediction"]["row"],
    ]
    return rows, predict_in_other_process(small_run.summary["saved_model"], rows, tmp_path_factory.mktemp("served"))


def find_artifact(small_run, name):
    (directory,) = (small_run.root / "artifacts" / name).iterdir()
    return directory


def make_artifacts(small_run, tmp_path, kind):
    """The run's model and raw examples, and an empty output of a kind, as a node would get them."""
    from tfx.types import artifact_utils, standard_artifacts

    model, examples, output = standard_artifacts.Model(), standard_artifacts.Examples(), kind()
    model.uri = str(find_artifact(small_run, "Trainer/model"))
    examples.uri = str(find_artifact(small_run, "CsvExampleGen/examples"))
    examples.split_names = artifact_utils.encode_split_names(["train", "eval", "test"])
    output.uri = str(tmp_path / "output")
    return model, examples, output


def as_channels(*artifacts):
    from tfx.types import channel_utils

    return [channel_utils.as_channel([artifact]) for artifact in artifacts]


def open_inference(log):
    """(row, probability) of one of BulkInferrer's logs."""
    import tensorflow as tf

    from serving.warmup_requests import rows_of_examples

    if log.WhichOneof("log_type") == "regress_log":
        (example,) = log.regress_log.request.input.example_list.examples
        serialized, probability = example.SerializeToString(), log.regress_log.response.result.regressions[0].value
    else:
        (tensor,) = log.predict_log.request.inputs.values()
        (serialized,) = tf.make_ndarray(tensor).ravel()
        (probability,) = tf.make_ndarray(log.predict_log.response.outputs["outputs"]).ravel()
    (row,) = rows_of_examples([serialized])
    row = {name: x.decode() if isinstance(x, bytes) else x for name, x in row.items() if name not in ("note", "bought")}
    return row, float(probability)


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
    assert (summary["num_rows"], summary["num_skipped_rows"]) == (2500, 0)
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
        f"storage     {STORAGE}: AUC ",
        f"serving     {WARMUP_RECORDS} warm-up records; InfraValidator is off, as serving.infra_validation says",
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


def test_what_the_storage_costs_is_in_the_metrics_the_summary_and_the_model_card(small_run):
    metrics = json.loads((find_artifact(small_run, "Trainer/model_run") / "metrics.json").read_text())
    card = Path(small_run.summary["saved_model"], "assets.extra", "model_card.md").read_text()

    differences = [metrics[f"storage_{name}_difference"] for name in ("auc", "log_loss")]
    assert list(small_run.summary["storage"].values()) == [STORAGE, *differences]
    assert 0 < max(map(abs, differences)) < 0.01
    assert f"| tables stored as | {STORAGE} |" in card
    assert f"{differences[0]:+.2g}, {differences[1]:+.2g}" in card


def test_the_saved_model_gives_the_stored_keras_models_numbers_where_our_code_is_missing(small_run, served):
    import keras
    import tensorflow as tf
    import tensorflow_transform as tft

    rows, probabilities = (values[:-1] for values in served)
    (graph,) = small_run.root.glob("artifacts/Transform/transform_graph/*")
    layer = tft.TFTransformOutput(str(graph)).transform_features_layer()
    model = keras.models.load_model(str(find_artifact(small_run, "Trainer/model") / "continuation" / "model.keras"))
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
    ids = {name: np.array(x) for name, x in layer(raw).items()}
    expected = with_storage(model, STORAGE).predict_on_batch(ids).ravel()

    np.testing.assert_allclose(probabilities, expected, atol=1e-5)
    np.testing.assert_allclose(probabilities, model.predict_on_batch(ids).ravel(), atol=0.02)


def test_the_printed_prediction_is_the_saved_models(small_run, served):
    assert served[1][-1] == pytest.approx(small_run.summary["prediction"]["probability"], abs=1e-6)


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


def test_what_was_pushed_is_one_whole_version_that_answers_its_warm_up_records(small_run):
    from serving.versions import list_versions
    from serving.warmup import read_warmup, replay_warmup

    pushed = Path(small_run.summary["saved_model"])
    exported = find_artifact(small_run, "Trainer/model") / "Format-Serving"

    assert pushed.parent == small_run.root / "serving_model"
    # Two: the repeated run had a baseline to compare with, so that the Evaluator and the Pusher ran again.
    assert {path.name for path in pushed.parent.iterdir()} == set(map(str, list_versions(pushed.parent)))
    assert list_versions(pushed.parent)[0] == int(pushed.name)
    assert (pushed / "saved_model.pb").read_bytes() == (exported / "saved_model.pb").read_bytes()
    assert small_run.summary["warmup_records"] == len(read_warmup(pushed)) == WARMUP_RECORDS
    for outputs in replay_warmup(pushed):
        for values in outputs.values():
            assert len(values) in (1, 32)
    archived = min((small_run.root / "artifacts/Pusher/pushed_model").iterdir(), key=lambda path: int(path.name))
    assert read_warmup(archived) == read_warmup(pushed)


def test_bulk_inferrer_runs_the_exported_model_on_every_row(small_run, tmp_path):
    import tensorflow as tf
    from tensorflow_serving.apis import prediction_log_pb2
    from tfx.components.bulk_inferrer import executor
    from tfx.proto import bulk_inferrer_pb2
    from tfx.types import standard_artifacts
    from tfx.utils import proto_utils

    from pipeline.beam_options import make_beam_args
    from pipeline.dag import EXAMPLES_SIGNATURE
    from serving.check import predict_rows

    model, examples, result = make_artifacts(small_run, tmp_path, standard_artifacts.InferenceResult)
    model_spec = bulk_inferrer_pb2.ModelSpec(model_signature_name=[EXAMPLES_SIGNATURE])
    data_spec = bulk_inferrer_pb2.DataSpec(example_splits=["test"])
    context = executor.Executor.Context(
        beam_pipeline_args=make_beam_args("local"), tmp_dir=str(tmp_path / "beam"), unique_id="1"
    )
    executor.Executor(context).Do(
        {"model": [model], "examples": [examples]},
        {"inference_result": [result]},
        {"model_spec": proto_utils.proto_to_json(model_spec), "data_spec": proto_utils.proto_to_json(data_spec)},
    )

    (file,) = Path(result.uri).glob("*.gz")
    records = tf.data.TFRecordDataset(str(file), "GZIP")
    logs = [prediction_log_pb2.PredictionLog.FromString(record.numpy()) for record in records]
    rows, inferred = zip(*(open_inference(log) for log in logs), strict=True)
    served = predict_rows(small_run.summary["saved_model"], rows)
    num_rows = sum(1 for _ in tf.data.TFRecordDataset(tf.io.gfile.glob(f"{examples.uri}/Split-test/*"), "GZIP"))
    assert len(logs) == num_rows > 100
    np.testing.assert_allclose(inferred, served, atol=1e-5)
    assert len(set(inferred)) > 10


def test_infra_validators_requests_fit_the_exported_model(small_run, tmp_path):
    """What InfraValidator would send to TF Serving, run in a Session: the server itself needs Docker or Kubernetes."""
    from tfx.components.infra_validator import executor, request_builder
    from tfx.proto import infra_validator_pb2
    from tfx.types import standard_artifacts
    from tfx.utils import proto_utils

    from pipeline.config import load_config
    from pipeline.dag import EXAMPLES_SIGNATURE
    from pipeline.infra_validation import make_infra_validator
    from serving.warmup import replay_warmup

    model, examples, _ = make_artifacts(small_run, tmp_path, standard_artifacts.InfraBlessing)
    config = load_config(str(small_run.config)).serving
    node = make_infra_validator("docker", config, *as_channels(model, examples), EXAMPLES_SIGNATURE)
    spec = infra_validator_pb2.RequestSpec()
    proto_utils.json_to_proto(node.exec_properties["request_spec"], spec)
    requests = request_builder.build_requests("model", model, examples, spec)

    logs = [executor._convert_to_prediction_log(request) for request in requests]
    (outputs,) = replay_warmup(Path(model.uri) / "Format-Serving", logs)
    assert outputs["outputs"].shape == (1, 1)


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
