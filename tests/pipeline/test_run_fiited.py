"""The pipeline with rows in chunks, end to end: what it exports is served, and passes the check."""

import json
from pathlib import Path

import numpy as np
import pytest

from keras_dimgrow import EmbeddingPlan
from tests.pipeline.small_run import SETTINGS, predict_in_other_process, run_command, write_rows

BUDGET = 500
FIITED = {
    "search.method": "fiited",
    "search.parameter_budget": BUDGET,
    "search.settings.min_rows": 10,
    "search.settings.chunking.period": 5,
    "search.settings.training.max_epochs": 2,
    "compare_with_uniform": "false",
}


@pytest.fixture(scope="module")
def summary(tmp_path_factory):
    directory = tmp_path_factory.mktemp("fiited")
    data, config = directory / "rows.csv", directory / "shop.yaml"
    write_rows(data)
    run_command("pipeline", "init", "--csv", data, "--label", "bought", "--output", config, directory=directory)
    settings = {key: value for key, value in SETTINGS.items() if not key.startswith("search.")} | FIITED
    arguments = ["run", "--config", config, "--root", directory / "root", "--json"]
    for key, value in settings.items():
        arguments += ["--set", f"{key}={value}"]
    result = run_command("pipeline", *arguments, directory=directory)
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


@pytest.mark.slow
def test_the_pipeline_runs_with_rows_in_chunks_and_its_export_passes_the_check(summary, tmp_path):
    import tensorflow as tf
    from tensorflow.core.protobuf import saved_model_pb2

    saved_model = Path(summary["saved_model"])

    checked = run_command("serving", "check", saved_model, directory=tmp_path)

    assert checked.returncode == 0, checked.stdout + checked.stderr
    plan = EmbeddingPlan.load(str(saved_model / "assets.extra" / "plan.json"))
    assert {field.name for field in plan.whole_fields} == {"product/kind"}
    assert summary["parameters"] == plan.parameters <= BUDGET
    assert summary["auc"] > 0.65
    assert "were evicted" in summary["note"]
    assert "by row" in (saved_model / "assets.extra" / "model_card.md").read_text()
    assert "<h2>Rows in chunks</h2>" in Path(summary["report"]).read_text()
    # No utilities: float32 numbers of each chunk. Addresses of each chunk are there unless rows have one, or none.
    rows = sum(field.vocabulary_size for field in plan.chunked_fields)
    [meta_graph] = saved_model_pb2.SavedModel.FromString((saved_model / "saved_model.pb").read_bytes()).meta_graphs
    # As small as here, they are constants.
    constants = [node.attr["value"].tensor for node in meta_graph.graph_def.node if node.op == "Const"]
    found = [tf.as_dtype(each.dtype) for each in constants if tf.TensorShape(each.tensor_shape).as_list() == [rows, 2]]
    assert found in ([tf.int32], [])
    variables = tf.train.load_checkpoint(str(saved_model / "variables" / "variables")).get_variable_to_shape_map()
    assert [rows, 2] not in variables.values()
    (served,) = predict_in_other_process(saved_model, [summary["prediction"]["row"]], tmp_path)
    assert served == pytest.approx(summary["prediction"]["probability"], abs=1e-6)
    assert np.isfinite(served)
