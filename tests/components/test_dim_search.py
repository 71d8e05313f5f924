import json
import logging
from pathlib import Path

import pytest
from tfx.dsl.components.base import executor_spec
from tfx.types import channel_utils, standard_artifacts

from components import DimSearch, SearchReport
from components.dim_search.executor import Executor
from keras_dimgrow import DimGrowPaperConfig, EmbeddingPlan, ModelConfig
from tests.components.conftest import VOCABULARY_SIZES, read_json

SEARCH = DimGrowPaperConfig(max_steps=300, check_every=50, checkpoint_every=100)


def exec_properties(**changes):
    values = {
        "label": "click",
        "search_config": SEARCH.to_json(),
        "model_config": ModelConfig(adapter_width=8, hidden_units=(8,)).to_json(),
        "batch_size": 64,
        "seed": 3,
        "uniform_dimension": 16,
        "checkpoint_directory": "",
        "code_version": "test",
    }
    return values | changes


def run_executor(transform_output, directory: Path, **changes):
    """Runs the executor by hand; returns the directories of its two outputs."""
    examples, graph = transform_output
    best, report = standard_artifacts.HyperParameters(), SearchReport()
    best.uri, report.uri = str(directory / "best"), str(directory / "report")
    Executor().Do(
        {"examples": [examples], "transform_graph": [graph]},
        {"best_hyperparameters": [best], "search_report": [report]},
        exec_properties(**changes),
    )
    return Path(best.uri), Path(report.uri), report


@pytest.fixture(scope="module")
def outputs(transform_output, tmp_path_factory):
    return run_executor(transform_output, tmp_path_factory.mktemp("search"))


def test_best_hyperparameters_is_exactly_one_json_file_and_a_plan(outputs):
    best, _, _ = outputs

    assert [file.name for file in best.iterdir()] == ["plan.json"]
    plan = EmbeddingPlan.from_dict(read_json(best / "plan.json"))
    assert {field.name: field.vocabulary_size for field in plan.fields} == VOCABULARY_SIZES
    assert plan.dimensions["city"] >= 1


def test_report_holds_page_trajectory_events_and_sizes(outputs):
    best, directory, artifact = outputs
    plan = EmbeddingPlan.from_dict(read_json(best / "plan.json"))

    records = [json.loads(line) for line in (directory / "trajectory.jsonl").read_text().splitlines()]
    assert [record["step"] for record in records] == [50, 100, 150, 200, 250, 300]
    assert records[-1]["validation_auc"] > 0.7
    assert list((directory / "tensorboard").glob("events.out.tfevents.*"))
    assert "city" in (directory / "report.html").read_text()
    assert artifact.get_int_custom_property("parameters") == plan.parameters
    assert artifact.get_int_custom_property("uniform_parameters") == 16 * sum(VOCABULARY_SIZES.values())


def test_the_same_search_twice_gives_the_same_plan_and_gates(transform_output, outputs, tmp_path):
    best, report, _ = outputs

    best_again, report_again, _ = run_executor(transform_output, tmp_path)

    assert read_json(best_again / "plan.json") == read_json(best / "plan.json")
    gates = [
        [json.loads(line)["gates"] for line in (directory / "trajectory.jsonl").read_text().splitlines()]
        for directory in (report, report_again)
    ]
    assert gates[0] == gates[1]


def test_progress_is_logged_with_numbers_for_a_terminal(transform_output, tmp_path, caplog):
    with caplog.at_level(logging.INFO, logger="components.dim_search.executor"):
        run_executor(transform_output, tmp_path)

    progress = [record.search_progress for record in caplog.records if hasattr(record, "search_progress")]
    assert [p["step"] for p in progress] == [50, 100, 150, 200, 250, 300]
    assert set(progress[-1]) == {
        *("step", "max_steps", "rows_per_s", "loss", "total_dims", "parameters", "max_parameters", "eta_s")
    }
    assert progress[-1]["rows_per_s"] > 0


def test_checkpoints_are_removed_when_the_search_is_done(transform_output, tmp_path):
    run_executor(transform_output, tmp_path, checkpoint_directory=str(tmp_path / "checkpoints"))

    assert list((tmp_path / "checkpoints").iterdir()) == []


def test_a_budget_below_the_vocabularies_is_an_error_and_leaves_nothing(transform_output, tmp_path):
    config = DimGrowPaperConfig.from_dict({"growth": {"max_parameters": 10}})

    with pytest.raises(ValueError, match=r"max_parameters=10 is below one dimension for each of the 2 fields.* 18"):
        run_executor(transform_output, tmp_path, search_config=config.to_json())

    assert list(tmp_path.iterdir()) == []


def test_the_component_carries_its_settings_as_execution_properties():
    examples = channel_utils.as_channel([standard_artifacts.Examples()])
    graph = channel_utils.as_channel([standard_artifacts.TransformGraph()])

    component = DimSearch(examples, graph, label="click", search_config=SEARCH, batch_size=64, code_version="abc")

    assert DimGrowPaperConfig.from_json(component.exec_properties["search_config"]) == SEARCH
    assert component.exec_properties["code_version"] == "abc"
    assert component.outputs["best_hyperparameters"].type is standard_artifacts.HyperParameters
    assert component.outputs["search_report"].type is SearchReport
    assert isinstance(component.executor_spec, executor_spec.ExecutorClassSpec)
    # Compiled pipelines name the executor by this path.
    assert component.executor_spec.class_path == "components.dim_search.executor.Executor"


def test_the_report_type_is_one_that_kubeflow_can_compile():
    assert SearchReport.TYPE_NAME == "components.SearchReport"
    assert not SearchReport.PROPERTIES
