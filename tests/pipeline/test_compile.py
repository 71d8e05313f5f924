import json

import pytest
import yaml
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
IMAGE, GPU_IMAGE = "registry.example/ml/dimgrow:1", "registry.example/ml/dimgrow:1-gpu"
ON_GPU = {"image": GPU_IMAGE, "cpu": 8, "memory": "64Gi", "accelerator_count": 2, "retries": 3}
DEFAULTS = {"cpu": 4, "memory": "16G", "retries": 1}
CLUSTERS = {
    "vertex": {"nodes": dict.fromkeys(["DimSearch", "Trainer"], ON_GPU | {"accelerator": "NVIDIA_TESLA_T4"})},
    "kubeflow": {
        "nodes": {
            "DimSearch": ON_GPU
            | {"accelerator": "nvidia.com/gpu", "node_selector": {"pool": "gpu"}, "machine_type": "n1-highmem-16"},
            "Trainer": ON_GPU | {"accelerator": "nvidia.com/gpu", "disk": "200Gi", "caching": False},
        },
    },
}


def compile_for(runner, output, *options) -> int:
    return main(["compile", "--config", "adult", "--runner", runner, "--output", str(output), *options])


@pytest.fixture(scope="module")
def compiled(tmp_path_factory):
    """The shipped sample's pipeline as each runner gets it: {runner: [PipelineSpec, PlatformSpec if there is one]}."""
    directory = tmp_path_factory.mktemp("compiled")
    pipelines = {}
    for runner, cluster in CLUSTERS.items():
        output = directory / f"{runner}.yaml"
        values = {"image": IMAGE, "defaults": DEFAULTS, "labels": {"team": "ads"}, **cluster}
        options = ["--root", "gs://bucket/root", "--data", "gs://bucket/data", "--set", "search.parameter_budget=0.2"]
        assert compile_for(runner, output, "--set", f"cluster={json.dumps(values)}", *options) == 0
        pipelines[runner] = list(yaml.safe_load_all(output.read_text()))
    return pipelines


def container_of(spec: dict, node: str) -> dict:
    return spec["deploymentSpec"]["executors"][spec["components"][node]["executorLabel"]]["container"]


@pytest.mark.parametrize("runner", ["vertex", "kubeflow"])
def test_the_compiled_pipeline_is_a_pipeline_spec(compiled, runner):
    spec = json_format.ParseDict(compiled[runner][0], pipeline_spec_pb2.PipelineSpec())

    assert spec.pipeline_info.name == "adult"
    assert spec.default_pipeline_root == "gs://bucket/root/artifacts"
    assert set(spec.root.dag.tasks) >= COMMON
    # The executors are a Struct to the PipelineSpec: the official message checks their fields.
    deployment = json_format.ParseDict(
        compiled[runner][0]["deploymentSpec"], pipeline_spec_pb2.PipelineDeploymentConfig()
    )
    assert {executor.container.image for executor in deployment.executors.values()} - {""} == {IMAGE, GPU_IMAGE}


def test_only_vertex_resolves_the_latest_blessed_model(compiled):
    tasks = {runner: set(compiled[runner][0]["root"]["dag"]["tasks"]) for runner in compiled}

    assert any("LatestBlessedModel" in task for task in tasks["vertex"])
    assert not any("LatestBlessedModel" in task for task in tasks["kubeflow"])


def test_nodes_run_our_code_by_its_public_path(compiled):
    text = json.dumps(compiled["vertex"][0])

    assert "components.dim_search.executor.Executor" in text
    assert "pipeline.training.run_fn" in text
    assert "pipeline.preprocessing.preprocessing_fn" in text


def test_each_of_our_nodes_carries_a_hash_of_the_code_it_runs(compiled):
    tasks = compiled["vertex"][0]["root"]["dag"]["tasks"]

    for name in ("Transform", "DimSearch", "Trainer", "UniformTrainer", "Pusher"):
        assert "code_version" in json.dumps(tasks[name]["inputs"]["parameters"]), name


@pytest.mark.parametrize(("runner", "accelerator"), [("vertex", "NVIDIA_TESLA_T4"), ("kubeflow", "nvidia.com/gpu")])
@pytest.mark.parametrize("node", ["DimSearch", "Trainer"])
def test_a_nodes_own_resources_are_in_the_spec(compiled, runner, accelerator, node):
    container = container_of(compiled[runner][0], node)

    assert container["image"] == GPU_IMAGE
    assert container["resources"] == {
        "cpuLimit": 8.0,
        "resourceCpuLimit": "8",
        "memoryLimit": pytest.approx(64 * 2**30 / 1e9),
        "resourceMemoryLimit": "64Gi",
        "accelerator": {
            **{"type": accelerator, "resourceType": accelerator},
            **{"count": "2", "resourceCount": "2"},
        },
    }
    assert compiled[runner][0]["root"]["dag"]["tasks"][node]["retryPolicy"] == {"maxRetryCount": 3}


@pytest.mark.parametrize("runner", ["vertex", "kubeflow"])
@pytest.mark.parametrize("node", sorted(COMMON - {"DimSearch", "Trainer"}))
def test_the_other_nodes_have_the_default_resources(compiled, runner, node):
    spec = compiled[runner][0]
    resources = {"cpuLimit": 4.0, "resourceCpuLimit": "4", "memoryLimit": 16.0, "resourceMemoryLimit": "16G"}

    assert container_of(spec, node)["resources"] == resources
    assert container_of(spec, node)["image"] == IMAGE
    assert spec["root"]["dag"]["tasks"][node]["retryPolicy"] == {"maxRetryCount": 1}


def test_what_only_kubernetes_knows_is_in_the_platform_spec(compiled):
    (_,), (spec, platform) = compiled["vertex"], compiled["kubeflow"]
    json_format.ParseDict(platform, pipeline_spec_pb2.PlatformSpec())
    executors = platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    labels = {"podMetadata": {"labels": {"team": "ads"}}}
    tolerations = {"tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}]}

    assert executors["Pusher_executor"] == labels
    assert executors["DimSearch_executor"] == labels | tolerations | {
        "nodeSelector": {"labels": {"pool": "gpu", "node.kubernetes.io/instance-type": "n1-highmem-16"}}
    }
    assert executors["Trainer_executor"] == labels | tolerations | {
        "emptyDirMounts": [{"volumeName": "tmp", "mountPath": "/tmp", "sizeLimit": "200Gi"}]
    }
    assert set(executors) == set(spec["deploymentSpec"]["executors"])


def test_nodes_are_cached_but_those_told_otherwise_and_examples_whose_changes_kubeflow_does_not_see(compiled):
    uncached = {
        runner: {name for name, task in spec["root"]["dag"]["tasks"].items() if not task.get("cachingOptions")}
        for runner, (spec, *_) in compiled.items()
    }

    assert uncached["kubeflow"] == {"CsvExampleGen", "Trainer"}
    assert {name for name in uncached["vertex"] if "LatestBlessedModel" not in name} == set()


def test_one_setting_turns_the_cache_off(tmp_path):
    assert compile_for("vertex", tmp_path / "pipeline.yaml", "--set", "cluster.caching=false") == 0

    tasks = yaml.safe_load((tmp_path / "pipeline.yaml").read_text())["root"]["dag"]["tasks"]
    assert not any(task.get("cachingOptions") for task in tasks.values())


@pytest.mark.parametrize("runner", ["vertex", "kubeflow"])
def test_data_budget_and_root_are_parameters_with_the_configured_values(compiled, runner):
    spec = compiled[runner][0]
    values = {"data": "gs://bucket/data", "budget": "0.2", "root": "gs://bucket/root"}
    parameters = spec["root"]["inputDefinitions"]["parameters"]
    tasks = spec["root"]["dag"]["tasks"]
    uses = {("CsvExampleGen", "input_base"): "data", ("DimSearch", "parameter_budget"): "budget"}
    uses |= {("DimSearch", "root"): "root", ("Pusher", "root"): "root"}

    assert parameters == {name: {"parameterType": "STRING", "defaultValue": value} for name, value in values.items()}
    for (node, name), parameter in uses.items():
        assert tasks[node]["inputs"]["parameters"][name] == {"componentInputParameter": parameter}


def test_a_job_file_of_vertex_has_root_and_labels_and_leaves_infra_validator_out(tmp_path):
    output = tmp_path / "pipeline.json"
    labels = ["--set", "cluster.labels={team: ads}", "--root", "gs://bucket/root"]
    assert compile_for("vertex", output, "--set", "serving.infra_validation=kubernetes", *labels) == 0

    job = json_format.Parse(output.read_text(), pipeline_spec_pb2.PipelineJob())
    assert job.runtime_config.gcs_output_directory == "gs://bucket/root/artifacts"
    assert job.labels["team"] == "ads"
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

    assert compile_for("vertex", output, *beam) == 0

    transform = container_of(json.loads(output.read_text())["pipelineSpec"], "Transform")
    assert {"--runner=DataflowRunner", *flags} <= set(transform["args"])


@pytest.mark.parametrize(
    ("runner", "setting", "message"),
    [
        ("vertex", 'beam.args=["--direct_num_worker=2"]', "Did you mean --direct_num_workers?"),
        ("vertex", "cluster.nodes={DimSerch: {cpu: 8}}", "no such node. Did you mean 'DimSearch'"),
        ("vertex", "cluster.nodes={Trainer: {disk: 100Gi}}", "cluster.nodes.Trainer.disk='100Gi': the disk"),
        ("vertex", "cluster.defaults={machine_type: n1-standard-4}", "cluster.defaults.machine_type='n1-standard-4'"),
        ("vertex", "cluster.nodes={Trainer: {node_selector: {a: b}}}", "cluster.nodes.Trainer.node_selector="),
        (
            "vertex",
            "cluster.nodes={Trainer: {accelerator: NVIDIA_T4}}",
            "Did you mean 'NVIDIA_L4' or 'NVIDIA_TESLA_T4'",
        ),
        ("kubeflow", "cluster.nodes={Trainer: {accelerator: NVIDIA_TESLA_T4}}", "such as nvidia.com/gpu"),
        ("kubeflow", "cluster.nodes={Trainer: {retry: 1}}", "Did you mean 'retries'"),
    ],
)
def test_what_the_runner_cannot_do_is_refused_and_nothing_is_written(runner, setting, message, tmp_path, capsys):
    output = tmp_path / "pipeline.yaml"

    assert compile_for(runner, output, "--set", setting) == 2

    assert message in capsys.readouterr().err
    assert not output.exists()


def test_kubeflow_takes_no_json(tmp_path, capsys):
    assert compile_for("kubeflow", tmp_path / "pipeline.json") == 2

    assert "Kubeflow Pipelines takes files that end in .yaml" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


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
    tasks = compiled["vertex"][0]["root"]["dag"]["tasks"]

    configs = {
        name: json.dumps(tasks[name]["inputs"]["parameters"]["eval_config"])
        for name in ("Evaluator", "UniformEvaluator")
    }
    assert "lower_bound" in configs["Evaluator"]
    assert "lower_bound" not in configs["UniformEvaluator"]
    assert "AUC" in configs["UniformEvaluator"]
