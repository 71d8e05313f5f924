import json
import logging
from pathlib import Path

import pytest
from tfx.dsl.components.base import executor_spec
from tfx.types import channel_utils, standard_artifacts

from components import DimSearch, SearchReport
from components.dim_search.executor import Executor, read_budget
from keras_dimgrow import METHODS, DimGrowConfig, DimGrowPaperConfig, EmbeddingPlan, Field, ModelConfig
from keras_dimgrow.methods import dimgrow
from keras_dimgrow.methods.autodim import AutoDimConfig
from keras_dimgrow.methods.fiited import FIITEDConfig
from keras_dimgrow.methods.random_search import RandomConfig
from keras_dimgrow.methods.uniform import UniformConfig
from tests.components.conftest import VOCABULARY_SIZES, read_json

SEARCH = DimGrowConfig(max_steps=130, num_looks=12, patience_looks=12)  # 10 steps a look, and 10 left over
PAPER = DimGrowPaperConfig(max_steps=300, check_every=50, checkpoint_every=100)


def exec_properties(**changes):
    values = {
        "label": "click",
        "method": "dimgrow",
        "parameter_budget": "0.5",
        "method_config": SEARCH.to_json(),
        "model_config": ModelConfig(adapter_width=8, hidden_units=(8,)).to_json(),
        "batch_size": 64,
        "seed": 3,
        "uniform_dimension": 16,
        "root": "",
        "code_version": "test",
    }
    return values | changes


def run_executor(transform_output, directory: Path, base_model=None, **changes):
    """Runs the executor by hand; returns the directories of its two outputs."""
    examples, graph = transform_output
    earlier = {} if base_model is None else {"base_model": [base_model]}
    best, report = standard_artifacts.HyperParameters(), SearchReport()
    best.uri, report.uri = str(directory / "best"), str(directory / "report")
    Executor().Do(
        {"examples": [examples], "transform_graph": [graph]} | earlier,
        {"best_hyperparameters": [best], "search_report": [report]},
        exec_properties(**changes),
    )
    return Path(best.uri), Path(report.uri), report


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """The pipeline's root of the search that `outputs` has."""
    return tmp_path_factory.mktemp("root")


@pytest.fixture(scope="module")
def logged() -> list[logging.LogRecord]:
    """What the search that `outputs` has logged."""
    return []


@pytest.fixture(scope="module")
def outputs(transform_output, root, logged, tmp_path_factory):
    class Handler(logging.Handler):
        emit = staticmethod(logged.append)

    logger, handler = logging.getLogger("components.dim_search.executor"), Handler()
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    found = run_executor(transform_output, tmp_path_factory.mktemp("search"), root=str(root))
    logger.setLevel(level)
    logger.removeHandler(handler)
    return found


def test_best_hyperparameters_is_exactly_one_json_file_and_a_plan(outputs):
    best, _, _ = outputs

    assert [file.name for file in best.iterdir()] == ["plan.json"]
    plan = EmbeddingPlan.from_dict(read_json(best / "plan.json"))
    assert {field.name: field.vocabulary_size for field in plan.fields} == VOCABULARY_SIZES
    assert plan.dimensions["city"] >= 1


def read_lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_report_holds_page_trajectory_race_events_and_sizes(outputs):
    best, directory, artifact = outputs
    plan = EmbeddingPlan.from_dict(read_json(best / "plan.json"))

    records = read_lines(directory / "trajectory.jsonl")
    assert [record["step"] for record in records] == list(range(10, 121, 10))
    assert records[-1]["validation_auc"] > 0.7
    assert all(record["gains"]["city"] for record in records[1:])
    assert {"found", "uniform"} <= {name for r in read_lines(directory / "race.jsonl") for name in contestants(r)}
    assert list((directory / "tensorboard").glob("events.out.tfevents.*"))
    page = (directory / "report.html").read_text()
    for text in ("city", "Gain", "<h2>Race</h2>", "parameter_budget", "num_looks"):
        assert text in page
    assert (
        artifact.get_int_custom_property("parameters") == plan.parameters <= 0.5 * 16 * sum(VOCABULARY_SIZES.values())
    )
    assert artifact.get_int_custom_property("uniform_parameters") == 16 * sum(VOCABULARY_SIZES.values())
    assert artifact.get_string_custom_property("method") == "dimgrow"
    assert artifact.get_string_custom_property("parameter_budget") == "0.5"


def contestants(record: dict) -> list[str]:
    return [record["name"], *record["same_plan_as"]]


def test_what_the_search_has_to_say_reaches_log_report_and_artifact(transform_output, tmp_path, caplog):
    # Without a budget the search always says what AUC its plan had beside the uniform one.
    with caplog.at_level(logging.INFO, logger="components.dim_search.executor"):
        _, report, artifact = run_executor(transform_output, tmp_path, parameter_budget="null")

    note = artifact.get_string_custom_property("note")
    assert "uniform 16" in note
    assert note in caplog.text
    assert note in (report / "report.html").read_text()


def test_the_same_search_twice_gives_the_same_plan_and_gains(transform_output, outputs, tmp_path):
    best, report, _ = outputs

    best_again, report_again, _ = run_executor(transform_output, tmp_path)

    assert read_json(best_again / "plan.json") == read_json(best / "plan.json")
    gains = [
        [record["gains"] for record in read_lines(directory / "trajectory.jsonl")]
        for directory in (report, report_again)
    ]
    assert gains[0] == gains[1]


@pytest.mark.parametrize(
    ("method", "config"),
    [
        ("dimgrow_paper", PAPER),
        ("random", RandomConfig(max_steps=10, num_plans=2)),
        ("autodim", AutoDimConfig(max_steps=40)),
        ("uniform", UniformConfig(dimension=3)),
    ],
)
def test_other_methods_leave_a_plan_and_a_report_too(transform_output, tmp_path, method, config):
    budget = "0.5" if METHODS[method].takes_budget else "null"
    best, report, artifact = run_executor(
        transform_output, tmp_path, method=method, method_config=config.to_json(), parameter_budget=budget
    )

    assert EmbeddingPlan.load(str(best / "plan.json")).parameters > 0
    assert ("No checks were recorded" in (report / "report.html").read_text()) == (method == "uniform")
    assert not (report / "race.jsonl").exists()
    assert artifact.get_string_custom_property("method") == method


def make_base_model(directory: Path, dims: dict[str, int]) -> standard_artifacts.Model:
    """An earlier run's model: of its vocabularies one was smaller, and it knew a field that is gone."""
    fields = [Field(name="city", vocabulary_size=10), Field(name="gone", vocabulary_size=4)]
    assets = directory / "model" / "Format-Serving" / "assets.extra"
    assets.mkdir(parents=True)
    EmbeddingPlan.from_dimensions(fields, dims).save(str(assets / "plan.json"))
    model = standard_artifacts.Model()
    model.uri = str(directory / "model")
    return model


def test_a_search_starts_from_the_plan_of_an_earlier_model_and_races_it(transform_output, tmp_path, caplog):
    model = make_base_model(tmp_path, {"city": 5, "gone": 3})
    settings = DimGrowConfig(max_steps=24, num_looks=3, patience_looks=3).to_json()

    with caplog.at_level(logging.INFO, logger="components.dim_search.executor"):
        best, report, _ = run_executor(transform_output, tmp_path, model, method_config=settings)

    first = read_lines(report / "trajectory.jsonl")[0]
    assert len(first["gains"]["city"]) == 5
    assert len(first["gains"]["device"]) == 1  # a new field
    assert "start" in {name for record in read_lines(report / "race.jsonl") for name in contestants(record)}
    assert set(EmbeddingPlan.load(str(best / "plan.json")).dimensions) == set(VOCABULARY_SIZES)
    assert f"search starts from the plan of the model {model.uri}" in caplog.text


def test_a_method_that_starts_from_no_plan_searches_as_ever(transform_output, tmp_path):
    model = make_base_model(tmp_path, {"city": 5, "gone": 3})
    settings = {"method": "uniform", "method_config": UniformConfig(dimension=3).to_json(), "parameter_budget": "null"}

    best, _, _ = run_executor(transform_output, tmp_path, model, **settings)

    assert EmbeddingPlan.load(str(best / "plan.json")).dimensions == dict.fromkeys(VOCABULARY_SIZES, 3)


@pytest.mark.parametrize("is_trained", [True, False])
def test_rows_in_chunks_and_their_pool_are_in_plan_and_report(transform_output, tmp_path, is_trained):
    config = FIITEDConfig.from_dict(
        {"is_trained": is_trained, "min_rows": 10, "chunking": {"period": 4}, "training": {"max_epochs": 1}}
    )
    best, report, artifact = run_executor(
        transform_output, tmp_path, method="fiited", method_config=config.to_json(), parameter_budget="200"
    )

    plan = EmbeddingPlan.load(str(best / "plan.json"))
    assert [field.name for field in plan.chunked_fields] == ["city"]
    assert artifact.get_int_custom_property("parameters") == plan.parameters == 200
    page = (report / "report.html").read_text()
    assert "by row, " in page
    assert ("<h2>Rows in chunks</h2>" in page) == is_trained
    if is_trained:
        records = read_lines(report / "trajectory.jsonl")
        assert [record["pool"]["slots"] for record in records] == [13] * 4


def progress_of(records: list[logging.LogRecord]) -> list[dict]:
    return [record.search_progress for record in records if hasattr(record, "search_progress")]


@pytest.mark.usefixtures("outputs")
def test_progress_counts_looks_without_a_guess_of_the_time_left(logged):
    progress = progress_of(logged)
    assert [p["look"] for p in progress] == [None, *range(2, 13)]
    assert [p["step"] for p in progress] == list(range(10, 121, 10))
    assert {(p["max_looks"], p["max_steps"], p["eta_s"]) for p in progress} == {(12, None, None)}
    assert progress[-1]["max_parameters"] == 8 * sum(VOCABULARY_SIZES.values())
    assert progress[-1]["rows_per_s"] > 0
    told = "\n".join(record.getMessage() for record in logged)
    assert f"budget {progress[-1]['max_parameters']} parameters" in told


def test_progress_of_the_papers_search_counts_steps_and_says_how_long_they_take(transform_output, tmp_path, caplog):
    with caplog.at_level(logging.INFO, logger="components.dim_search.executor"):
        run_executor(
            transform_output,
            tmp_path,
            method="dimgrow_paper",
            method_config=PAPER.to_json(),
            parameter_budget="null",
        )

    progress = progress_of(caplog.records)
    assert [(p["step"], p["max_steps"]) for p in progress] == [(step, 300) for step in range(50, 301, 50)]
    assert [p["eta_s"] is None for p in progress] == [True] + [False] * 5
    assert set(progress[-1]) == {
        *("step", "max_steps", "look", "max_looks", "rows_per_s", "loss", "validation_loss", "total_dims"),
        *("parameters", "max_parameters", "eta_s"),
    }


@pytest.mark.usefixtures("outputs")
def test_checkpoints_are_removed_when_the_search_is_done(root):
    assert list((root / "checkpoints").iterdir()) == []


def test_a_search_killed_in_its_race_races_again_and_finds_the_same_plan(
    transform_output, outputs, tmp_path, monkeypatch, caplog
):
    class KilledError(Exception):
        """Stands for the end of the process."""

    def kill(*arguments):
        raise KilledError

    settings = {"root": str(tmp_path)}
    with monkeypatch.context() as patch:
        patch.setattr(dimgrow, "race_plans", kill)
        with pytest.raises(KilledError):
            run_executor(transform_output, tmp_path / "killed", **settings)

    with caplog.at_level(logging.INFO, logger="keras_dimgrow"):
        best, report, _ = run_executor(transform_output, tmp_path / "again", **settings)

    assert "search goes on from step 120" in caplog.text
    assert read_json(best / "plan.json") == read_json(outputs[0] / "plan.json")
    assert read_lines(report / "race.jsonl") == read_lines(outputs[1] / "race.jsonl")
    assert [r["step"] for r in read_lines(report / "trajectory.jsonl")] == list(range(10, 121, 10))


@pytest.mark.parametrize(
    ("text", "expected"), [("0.1", 0.1), ("2000000", 2000000), ('"64MB"', "64MB"), ("64MB", "64MB"), ("null", None)]
)
def test_a_budget_given_at_the_start_of_a_run_needs_no_quotes(text, expected):
    assert read_budget(text) == expected


def test_a_budget_that_holds_nothing_is_an_error_and_leaves_nothing(transform_output, tmp_path):
    with pytest.raises(
        ValueError, match=r"one dimension of the smallest field takes 6 parameters; received a budget of 5"
    ):
        run_executor(transform_output, tmp_path, parameter_budget="5")

    assert list(tmp_path.iterdir()) == []


def make_component(**settings) -> DimSearch:
    examples = channel_utils.as_channel([standard_artifacts.Examples()])
    graph = channel_utils.as_channel([standard_artifacts.TransformGraph()])
    return DimSearch(examples, graph, label="click", **settings)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"method": "dimgrw"}, r"unknown method 'dimgrw'. Did you mean 'dimgrow'"),
        (
            {"method_config": PAPER},
            r"method='dimgrow'\) takes a DimGrowConfig as config; received a DimGrowPaperConfig",
        ),
        ({"method": "autodim", "parameter_budget": 0.5}, r"takes no parameter_budget; received 0.5"),
        ({"parameter_budget": 1.5}, r"parameter_budget must be a share .* received 1.5"),
        ({"parameter_budget": "64 potatoes"}, r"parameter_budget must be .* received '64 potatoes'"),
    ],
)
def test_a_wrong_search_is_refused_when_the_pipeline_is_made(settings, message):
    with pytest.raises(ValueError, match=message):
        make_component(**settings)


@pytest.mark.parametrize("budget", [None, 0.5, 1.0, 5000, "64MB"])
def test_a_budget_travels_as_json_and_keeps_its_kind(budget):
    text = make_component(parameter_budget=budget).exec_properties["parameter_budget"]

    assert json.loads(text) == budget
    assert type(json.loads(text)) is type(budget)


def test_the_component_carries_its_settings_as_execution_properties():
    component = make_component(method_config=SEARCH, batch_size=64, code_version="abc")

    assert component.exec_properties["method"] == "dimgrow"
    assert DimGrowConfig.from_json(component.exec_properties["method_config"]) == SEARCH
    assert component.exec_properties["code_version"] == "abc"
    assert component.outputs["best_hyperparameters"].type is standard_artifacts.HyperParameters
    assert component.outputs["search_report"].type is SearchReport
    assert isinstance(component.executor_spec, executor_spec.ExecutorClassSpec)
    # Compiled pipelines name the executor by this path.
    assert component.executor_spec.class_path == "components.dim_search.executor.Executor"


def test_the_report_type_is_one_that_kubeflow_can_compile():
    assert SearchReport.TYPE_NAME == "components.SearchReport"
    assert not SearchReport.PROPERTIES
