"""The files that `configure` writes, each held against the official description of its format."""

import importlib.metadata
import json
import pathlib
import re
import subprocess
import sys

import pytest
import yaml
from google.protobuf import text_format
from tensorflow_serving.config import model_server_config_pb2

from serving.configure import FILES, SERVING_VERSION, ServerConfig, render_files, write_files

CONFIGS = {
    "labels": ServerConfig(name="ctr", labels={"stable": 1, "canary": 2}),
    "plain": ServerConfig(name="ads-2", use_batching=True, image="ads:7"),
    "remote": ServerConfig(name="ctr", base_path="gs://bucket/ctr", storage_uri="gs://bucket/ctr"),
}
DEPLOY = pathlib.Path(__file__).parents[2] / "serving" / "deploy"

# message BatchingParameters of tensorflow_serving/servables/tensorflow/session_bundle_config.proto (release 2.19); the wheel
# tensorflow-serving-api does not have it. Those that hold one value are wrapper messages: {value: N}.
BATCHING_FIELDS = {"max_batch_size", "batch_timeout_micros", "max_enqueued_batches", "num_batch_threads"}
# messages MonitoringConfig and PrometheusConfig of tensorflow_serving/config/monitoring_config.proto.
MONITORING_FIELDS = {"prometheus_config": {"enable": bool, "path": str}}
# tensorflow_serving/model_servers/main.cc, where the flags are declared.
SERVER_FLAGS = {
    *("port", "rest_api_port", "model_config_file", "model_config_file_poll_wait_seconds", "enable_batching"),
    *("allow_version_labels_for_unavailable_models", "batching_parameters_file", "monitoring_config_file"),
    *("enable_model_warmup", "model_name", "model_base_path", "rest_api_timeout_in_ms"),
}
# schema/compose-spec.json of the Compose Specification: what a service, its healthcheck and its limits may have.
COMPOSE_KEYS = {"name", "services", "networks", "volumes", "configs", "secrets"}
COMPOSE_SERVICE_KEYS = {
    *("image", "build", "entrypoint", "command", "user", "read_only", "cap_drop", "security_opt", "tmpfs", "ports"),
    *("volumes", "healthcheck", "deploy", "restart", "environment"),
}
COMPOSE_HEALTH_KEYS = {"test", "interval", "timeout", "retries", "start_period", "start_interval", "disable"}
# KServe's own API reference: V1beta1PredictorSpec, V1beta1ModelSpec, V1beta1ModelFormat (python/kserve/docs).
PREDICTOR_FIELDS = {
    *("minReplicas", "maxReplicas", "scaleMetric", "scaleTarget", "timeout", "model", "canaryTrafficPercent"),
    *("containerConcurrency", "serviceAccountName", "labels", "annotations", "logger", "batcher"),
}
MODEL_FIELDS = {
    *("modelFormat", "runtime", "runtimeVersion", "protocolVersion", "storageUri", "args", "env", "resources"),
    *("readinessProbe", "livenessProbe", "startupProbe", "securityContext", "storage", "ports"),
}


@pytest.fixture(params=sorted(CONFIGS))
def config(request):
    return CONFIGS[request.param]


@pytest.fixture
def files(config):
    return render_files(config)


def parse_text_proto(text):
    """{field: value or {field: ...}} of a text-format protocol buffer without repeated fields."""
    tokens = re.findall(r'"[^"]*"|[A-Za-z_]\w*|\d+|[{}:]', re.sub(r"#.*", "", text))

    def parse(end):
        fields = {}
        while tokens and tokens[0] != end:
            name = tokens.pop(0)
            assert name not in fields, f"{name} is given twice"
            if tokens[0] == ":":
                tokens.pop(0)
                fields[name] = json.loads(tokens.pop(0))
            else:
                assert tokens.pop(0) == "{"
                fields[name] = parse("}")
                assert tokens.pop(0) == "}"
        return fields

    return parse(None)


def list_flags(files):
    """The server's flags, by the file that gives them."""
    (command,) = re.findall(r"^CMD (\[.*\])$", files["Dockerfile"], re.M)
    deployment = next(d for d in yaml.safe_load_all(files["kubernetes.yaml"]) if d["kind"] == "Deployment")
    return {
        "Dockerfile": json.loads(command),
        "compose.yaml": yaml.safe_load(files["compose.yaml"])["services"]["serving"]["command"],
        "kubernetes.yaml": deployment["spec"]["template"]["spec"]["containers"][0]["args"],
    }


def test_the_official_proto_reads_models_config(config, files):
    parsed = text_format.Parse(files["models.config"], model_server_config_pb2.ModelServerConfig())
    (model,) = parsed.model_config_list.config
    assert (model.name, model.model_platform) == (config.name, "tensorflow")
    assert model.base_path == (config.base_path or f"/models/{config.name}")
    assert dict(model.version_labels) == dict(config.labels)
    assert list(model.model_version_policy.specific.versions) == sorted(set(config.labels.values()))


def test_two_labels_of_one_version_serve_it_once():
    files = render_files(ServerConfig(name="ctr", labels={"canary": 4, "stable": 4}))
    parsed = text_format.Parse(files["models.config"], model_server_config_pb2.ModelServerConfig())
    (model,) = parsed.model_config_list.config
    assert list(model.model_version_policy.specific.versions) == [4]
    assert dict(model.version_labels) == {"canary": 4, "stable": 4}


def test_batching_parameters_are_documented_ones(files):
    parsed = parse_text_proto(files["batching.config"])
    assert set(parsed) <= BATCHING_FIELDS
    for name, wrapped in parsed.items():
        assert set(wrapped) == {"value"}, name
        assert wrapped["value"] >= 1, name


def test_monitoring_fields_are_documented_ones(files):
    parsed = parse_text_proto(files["monitoring.config"])
    assert set(parsed) == set(MONITORING_FIELDS)
    for name, value in parsed["prometheus_config"].items():
        assert type(value) is MONITORING_FIELDS["prometheus_config"][name]
    assert parsed["prometheus_config"]["enable"]


def test_every_server_gets_the_same_flags_and_the_server_has_them(config, files):
    flags = list_flags(files)
    assert flags["Dockerfile"] == flags["compose.yaml"] == flags["kubernetes.yaml"]
    names = {flag.removeprefix("--").partition("=")[0] for flag in flags["Dockerfile"]}
    assert names <= SERVER_FLAGS
    assert f"--enable_batching={str(config.use_batching).lower()}" in flags["Dockerfile"]
    assert ("batching_parameters_file" in names) == config.use_batching
    for flag in flags["Dockerfile"]:
        if "/config/" in flag:
            assert flag.rpartition("/")[2] in FILES


def test_hadolint_accepts_the_dockerfile(files, tmp_path):
    (tmp_path / "Dockerfile").write_text(files["Dockerfile"])
    tool = pathlib.Path(sys.executable).with_name("hadolint")
    done = subprocess.run(
        [tool, "--failure-threshold", "style", "Dockerfile"], cwd=tmp_path, capture_output=True, text=True
    )
    assert (done.returncode, done.stdout) == (0, "")


def test_the_image_is_pinned_from_no_particular_registry_and_does_not_run_as_root(config, files):
    assert f"\nFROM tensorflow/serving:{config.serving_version}\n" in files["Dockerfile"]
    assert "\nUSER 1000:1000\n" in files["Dockerfile"]
    is_remote = config.base_path is not None
    assert ("COPY models/" in files["Dockerfile"]) == (not is_remote)
    assert ("./models:" in files["compose.yaml"]) == (not is_remote)


def test_the_servers_release_is_that_of_the_api_package():
    assert importlib.metadata.version("tensorflow-serving-api") == SERVING_VERSION


def test_kubernetes_validate_accepts_the_manifests(files, tmp_path):
    (tmp_path / "kubernetes.yaml").write_text(files["kubernetes.yaml"])
    tool = pathlib.Path(sys.executable).with_name("kubernetes-validate")
    done = subprocess.run([tool, "--strict", "kubernetes.yaml"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_kubernetes_pods_are_probed_limited_and_not_root(config, files):
    documents = {document["kind"]: document for document in yaml.safe_load_all(files["kubernetes.yaml"])}
    assert set(documents) == {*("ConfigMap", "Deployment", "Service", "HorizontalPodAutoscaler", "PodDisruptionBudget")}
    pod = documents["Deployment"]["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert container["image"] == (config.image or f"{config.name}-serving:1")
    assert pod["securityContext"]["runAsNonRoot"]
    assert pod["securityContext"]["runAsUser"] > 0
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    path = f"/v1/models/{config.name}" + ("/labels/stable" if config.labels else "") + "/metadata"
    assert container["readinessProbe"]["httpGet"] == {"path": path, "port": "rest"}
    assert {"startupProbe", "livenessProbe"} <= set(container)
    assert set(container["resources"]["limits"]) == set(container["resources"]["requests"]) == {"cpu", "memory"}
    assert documents["HorizontalPodAutoscaler"]["spec"]["scaleTargetRef"]["name"] == f"{config.name}-serving"
    assert "replicas" not in documents["Deployment"]["spec"]
    labels = documents["Deployment"]["spec"]["template"]["metadata"]["labels"]
    assert documents["Service"]["spec"]["selector"].items() <= labels.items()
    targets = {port["targetPort"] for port in documents["Service"]["spec"]["ports"]}
    assert targets == {port["name"] for port in container["ports"]}


def test_kubernetes_has_the_same_server_configuration_as_docker(files):
    data = next(d for d in yaml.safe_load_all(files["kubernetes.yaml"]) if d["kind"] == "ConfigMap")["data"]
    assert data == {name: files[name] for name in FILES if name.endswith(".config")}


def test_compose_has_documented_keys_only(config, files):
    compose = yaml.safe_load(files["compose.yaml"])
    assert set(compose) <= COMPOSE_KEYS
    (service,) = compose["services"].values()
    assert set(service) <= COMPOSE_SERVICE_KEYS
    assert set(service["healthcheck"]) <= COMPOSE_HEALTH_KEYS
    assert service["healthcheck"]["test"][0] == "CMD"
    assert set(service["deploy"]) == {"resources"}
    assert set(service["deploy"]["resources"]["limits"]) == {"cpus", "memory"}
    assert service["image"] == f"tensorflow/serving:{config.serving_version}"
    assert all(port.startswith("127.0.0.1:") for port in service["ports"])
    assert "$" not in files["compose.yaml"]  # compose would look for a variable


def test_health_checks_know_an_answer_from_an_error(files):
    """The one-line client of the Dockerfile, run by bash against a server that knows one path."""
    import http.server
    import threading

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200 if self.path == self.server.known_path else 404)
            self.end_headers()

        def log_message(self, *arguments):
            pass

    (check,) = re.findall(r"^  CMD (\[.*\])$", files["Dockerfile"], re.M)
    *shell, script = json.loads(check)
    assert yaml.safe_load(files["compose.yaml"])["services"]["serving"]["healthcheck"]["test"][1:] == [*shell, script]
    (asked,) = re.findall(r"GET (\S+) HTTP", script)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        script = script.replace("/8501", f"/{server.server_address[1]}")
        statuses = []
        for server.known_path in (asked, "/other"):
            statuses.append(subprocess.run([*shell, script], capture_output=True, timeout=20).returncode)
        server.shutdown()
        thread.join()
    assert statuses[0] == 0
    assert statuses[1] != 0


def test_the_inference_service_has_documented_fields_only(config, files):
    service = yaml.safe_load(files["kserve.yaml"])
    assert (service["apiVersion"], service["kind"]) == ("serving.kserve.io/v1beta1", "InferenceService")
    assert service["metadata"] == {"name": config.name}
    assert set(service["spec"]) == {"predictor"}
    predictor = service["spec"]["predictor"]
    assert set(predictor) <= PREDICTOR_FIELDS
    assert predictor["scaleMetric"] in ("concurrency", "rps", "cpu", "memory")
    model = predictor["model"]
    assert set(model) <= MODEL_FIELDS
    assert model["modelFormat"] == {"name": "tensorflow", "version": "2"}
    assert model["protocolVersion"] in ("v1", "v2", "grpc-v1", "grpc-v2")
    assert model["storageUri"] == (config.storage_uri or f"pvc://{config.name}/models")
    assert isinstance(model["runtimeVersion"], str)
    assert {flag.removeprefix("--").partition("=")[0] for flag in model["args"]} <= SERVER_FLAGS


def test_the_kserve_container_is_one_that_kubernetes_takes(files, tmp_path):
    """The part of an InferenceService that becomes a container, in a pod of its own."""
    model = yaml.safe_load(files["kserve.yaml"])["spec"]["predictor"]["model"]
    names = ("args", "readinessProbe", "resources")
    container = {"name": "kserve-container", "image": "x", **{name: model[name] for name in names}}
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x"}, "spec": {"containers": [container]}}
    (tmp_path / "pod.yaml").write_text(yaml.safe_dump(pod))
    tool = pathlib.Path(sys.executable).with_name("kubernetes-validate")
    done = subprocess.run([tool, "--strict", "pod.yaml"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_examples_in_the_repository_are_what_the_templates_give():
    rendered = render_files(CONFIGS["labels"])
    assert {name: (DEPLOY / name).read_text("utf-8") for name in FILES} == rendered
    assert {path.name for path in DEPLOY.iterdir()} == {*FILES, "README.md"}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": "Ads"}, "name must be .* received 'Ads'"),
        ({"name": "a" * 56}, "at most 55"),
        ({"labels": {"stable": 0}}, "received stable=0"),
        ({"labels": {'a"b': 1}}, "A label is letters"),
        ({"base_path": "/models/my model"}, "base_path must be without spaces"),
        ({"image": 'x"\nUSER root'}, "image must be without spaces"),
    ],
)
def test_settings_that_would_break_a_file_are_rejected(changes, message):
    with pytest.raises(ValueError, match=message):
        ServerConfig(**{"name": "ctr"} | changes)


def test_files_that_were_edited_are_not_overwritten_without_force(tmp_path):
    directory = tmp_path / "deploy"
    paths = write_files(ServerConfig(name="ctr"), directory)
    assert sorted(path.name for path in directory.iterdir()) == sorted(FILES)
    assert paths == write_files(ServerConfig(name="ctr"), directory)
    (directory / "compose.yaml").write_text("mine")
    with pytest.raises(FileExistsError, match=r"compose\.yaml, .* would be overwritten"):
        write_files(ServerConfig(name="ctr", labels={"stable": 1}), directory)
    assert (directory / "compose.yaml").read_text() == "mine"
    assert "stable" not in (directory / "models.config").read_text()
    write_files(ServerConfig(name="ctr"), directory, force=True)
    assert "services" in (directory / "compose.yaml").read_text()
