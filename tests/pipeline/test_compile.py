import json

import pytest
from google.protobuf import json_format
from kfp.pipeline_spec import pipeline_spec_pb2

from pipeline.cli import main

COMMON = {
    "CsvExampleGen",
    "StatisticsGen",
    "SchemaGen",
    "ExampleValidator",
    "Transform",
    "DimSearch",
    "Trainer",
    "Evaluator",
    "Pusher",
}


@pytest.fixture(scope="module")
def compiled(tmp_path_factory):
    """The shipped sample's pipeline as each runner gets it: {runner: parsed JSON}."""
    directory = tmp_path_factory.mktemp("compiled")
    pipelines = {}
    for runner in ("vertex", "kubeflow"):
        output = directory / f"{runner}.json"
        assert main(["compile", "--config", "adult", "--runner", runner, "--output", str(output)]) == 0
        pipelines[runner] = json.loads(output.read_text())
    return pipelines


@pytest.mark.parametrize("runner", ["vertex", "kubeflow"])
def test_the_compiled_pipeline_is_a_pipeline_spec(compiled, runner):
    spec = json_format.ParseDict(compiled[runner]["pipelineSpec"], pipeline_spec_pb2.PipelineSpec())

    assert spec.pipeline_info.name == "adult"
    assert set(spec.root.dag.tasks) >= COMMON


def test_only_vertex_resolves_the_latest_blessed_model(compiled):
    tasks = {runner: set(compiled[runner]["pipelineSpec"]["root"]["dag"]["tasks"]) for runner in compiled}

    assert any("LatestBlessedModel" in task for task in tasks["vertex"])
    assert not any("LatestBlessedModel" in task for task in tasks["kubeflow"])


def test_nodes_run_our_code_by_its_public_path(compiled):
    spec = compiled["vertex"]["pipelineSpec"]
    text = json.dumps(spec)

    assert "components.dim_search.executor.Executor" in text
    assert "pipeline.training.run_fn" in text
    assert "pipeline.preprocessing.preprocessing_fn" in text


def test_each_of_our_nodes_carries_a_hash_of_the_code_it_runs(compiled):
    tasks = compiled["vertex"]["pipelineSpec"]["root"]["dag"]["tasks"]

    for name in ("Transform", "DimSearch", "Trainer", "UniformTrainer"):
        assert "code_version" in json.dumps(tasks[name]["inputs"]["parameters"]), name


def test_infra_validator_stays_out_of_compiled_pipelines(tmp_path):
    output = tmp_path / "pipeline.json"
    options = ["--runner", "vertex", "--output", str(output), "--set", "serving.infra_validation=kubernetes"]
    assert main(["compile", "--config", "adult", *options]) == 0

    assert "InfraValidator" not in output.read_text()
    assert "pipeline.pusher.executor.Executor" in output.read_text()


def test_beam_flags_reach_the_compiled_nodes(tmp_path):
    flags = [
        "--project=shop",
        "--region=europe-west4",
        "--temp_location=gs://bucket/tmp",
        "--sdk_container_image=shop:1",
    ]
    output = tmp_path / "flags.json"
    beam = ["--set", "beam.profile=dataflow", "--set", f"beam.args={json.dumps(flags)}"]

    assert main(["compile", "--config", "adult", "--runner", "vertex", "--output", str(output), *beam]) == 0

    executors = json.loads(output.read_text())["pipelineSpec"]["deploymentSpec"]["executors"]
    transform = next(executor for name, executor in executors.items() if name.startswith("Transform"))
    assert {"--runner=DataflowRunner", *flags} <= set(transform["container"]["args"])


def test_a_misspelt_beam_flag_is_refused_and_nothing_is_written(tmp_path, capsys):
    output = tmp_path / "flags.json"
    beam = ["--set", 'beam.args=["--direct_num_worker=2"]']

    assert main(["compile", "--config", "adult", "--runner", "vertex", "--output", str(output), *beam]) != 0

    assert "Did you mean --direct_num_workers?" in capsys.readouterr().err
    assert not output.exists()


@pytest.mark.parametrize(
    ("warm_start", "nodes"), [("plan", {"Transform", "DimSearch"}), ("weights", {"Transform", "DimSearch", "Trainer"})]
)
def test_a_warm_start_gives_nodes_the_last_blessed_model(tmp_path, warm_start, nodes):
    output = tmp_path / "warm.json"
    options = ["--runner", "vertex", "--output", str(output), "--set", f"warm_start={warm_start}"]
    assert main(["compile", "--config", "adult", *options]) == 0

    spec = json.loads(output.read_text())["pipelineSpec"]
    json_format.ParseDict(spec, pipeline_spec_pb2.PipelineSpec())
    warm = {
        name
        for name, task in spec["root"]["dag"]["tasks"].items()
        if "base_model" in task.get("inputs", {}).get("artifacts", {})
    }
    assert warm == nodes
    assert "pipeline.transform.executor.Executor" in json.dumps(spec)


def test_open_source_kubeflow_refuses_a_warm_start_and_writes_nothing(tmp_path, capsys):
    output = tmp_path / "warm.json"
    options = ["--runner", "kubeflow", "--output", str(output), "--set", "warm_start=plan"]

    assert main(["compile", "--config", "adult", *options]) == 2

    assert "warm_start: plan needs the last blessed model, which open-source Kubeflow" in capsys.readouterr().err
    assert not output.exists()


def test_only_the_plans_model_can_be_blessed(compiled):
    """Else the uniform model beside it would be the last blessed one, which the next run compares and goes on with."""
    tasks = compiled["vertex"]["pipelineSpec"]["root"]["dag"]["tasks"]

    configs = {
        name: json.dumps(tasks[name]["inputs"]["parameters"]["eval_config"])
        for name in ("Evaluator", "UniformEvaluator")
    }
    assert "lower_bound" in configs["Evaluator"]
    assert "lower_bound" not in configs["UniformEvaluator"]
    assert "AUC" in configs["UniformEvaluator"]
