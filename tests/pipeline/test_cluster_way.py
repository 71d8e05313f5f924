"""The compiled pipeline run as a cluster runs it, but for the cluster, against the same pipeline on this machine."""

import json

import pytest
import tensorflow_model_analysis as tfma

from pipeline.cli import main
from tests.pipeline.compiled_run import ROOT, CompiledRun, install_wheel, run
from tests.pipeline.small_run import run_command, write_rows

pytestmark = pytest.mark.slow

BUDGET = 0.25
SETTINGS = {
    "batch_size": 64,
    "search.settings.epochs": 4,
    "training.max_epochs": 2,
    "model.hidden_units": "[16]",
    "model.adapter_width": 16,
    "serving.infra_validation": "off",
    "serving.warmup_records": 4,
    "serving.reference_rows": 20,
}


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """The summary of a run on this machine, and the same run by the compiled commands."""
    directory = tmp_path_factory.mktemp("cluster")
    config, root, bucket = directory / "shop.yaml", directory / "root", directory / "bucket"
    write_rows(directory / "rows.csv", num_rows=1200)
    run_command("pipeline", "init", "--csv", "rows.csv", "--label", "bought", "--output", config, directory=directory)
    settings = [argument for key, value in SETTINGS.items() for argument in ("--set", f"{key}={value}")]
    local = [
        "run",
        "--config",
        config,
        "--root",
        root,
        *settings,
        "--set",
        f"search.parameter_budget={BUDGET}",
        "--json",
    ]
    done = run_command("pipeline", *local, directory=directory)
    assert done.returncode == 0, done.stderr
    (prepared,) = (path for path in (root / "data").iterdir() if path.is_dir())

    # Budget and root of the compiled pipeline are others; the run is given its own.
    compiled = directory / "pipeline.json"
    options = ["--set", "search.parameter_budget=0.9", "--root", str(directory / "elsewhere"), "--data", str(prepared)]
    arguments = [
        "compile",
        "--config",
        str(config),
        "--runner",
        "vertex",
        "--output",
        str(compiled),
        *options,
        *settings,
    ]
    assert main(arguments) == 0
    empty = directory / "empty"
    empty.mkdir()
    spec = json.loads(compiled.read_text())["pipelineSpec"]
    parameters = {"budget": str(BUDGET), "root": str(bucket)}
    cluster = CompiledRun(spec, parameters, bucket / "artifacts", empty, install_wheel(directory))
    cluster.run_all()
    assert not (directory / "elsewhere").exists()
    return json.loads(done.stdout), cluster


def read_auc(evaluation: str) -> float:
    slices = tfma.load_eval_result(evaluation).get_metrics_for_all_slices()
    return slices[()]["auc"]["doubleValue"]


def test_every_node_with_a_container_ran_by_its_own_command(runs):
    _, cluster = runs
    executors = cluster.spec["deploymentSpec"]["executors"]
    names = {label.removesuffix("_executor") for label, executor in executors.items() if "container" in executor}

    assert set(cluster.commands) == names | {"CsvExampleGen driver"}
    assert {command[2] for command in cluster.commands.values()} == {
        "tfx.orchestration.kubeflow.v2.container.kubeflow_v2_run_executor",
        "tfx.orchestration.kubeflow.v2.file_based_example_gen.driver",
    }


def test_the_plan_is_the_one_found_on_this_machine(runs):
    summary, cluster = runs
    with open(f"{cluster.uri('DimSearch', 'best_hyperparameters')}/plan.json") as file:
        plan = json.load(file)

    assert {field["name"]: field["dimension"] for field in plan["fields"]} == summary["plan"]


def test_the_auc_is_the_one_of_this_machine(runs):
    summary, cluster = runs

    assert read_auc(cluster.uri("Evaluator", "evaluation")) == pytest.approx(summary["auc"], abs=1e-6)
    assert read_auc(cluster.uri("UniformEvaluator", "evaluation")) == pytest.approx(summary["uniform_auc"], abs=1e-6)


def test_the_blessed_model_is_pushed_below_the_root_of_the_run(runs):
    summary, cluster = runs
    versions = list((cluster.bucket.parent / "serving_model").iterdir())

    assert summary["blessed"]
    assert len(versions) == 1
    assert (versions[0] / "assets.extra" / "tf_serving_warmup_requests").exists()


def test_no_process_saw_the_checkout(runs):
    _, cluster = runs
    names = ("components", "keras_dimgrow", "pipeline", "serving")
    look = f"import json, sys, {', '.join(names)}; print(json.dumps([sys.path, *(m.__file__ for m in ({', '.join(names)}))]))"
    path, *files = json.loads(run(["python", "-c", look], cluster.directory, cluster.path))

    assert str(ROOT) not in path
    assert all(file.startswith(str(cluster.path.parent)) for file in files)
