"""`submit` by the official clients, against servers on this machine that stand for Vertex AI and Kubeflow Pipelines."""

import concurrent.futures
import http.server
import json
import socket
import threading

import grpc
import pytest
from google.auth.credentials import AnonymousCredentials
from google.cloud import aiplatform_v1
from google.cloud.aiplatform_v1.services.pipeline_service.transports import PipelineServiceGrpcTransport

from pipeline import vertex
from pipeline.cli import main

IMAGE = "registry.example/ml/dimgrow:1"
COMMON = [
    "--config",
    "adult",
    "--data",
    "gs://bucket/data",
    "--root",
    "gs://bucket/root",
    "--set",
    f"cluster.image={IMAGE}",
]
VERTEX = [*COMMON, "--runner", "vertex", "--set", "cluster.project=shop", "--set", "cluster.region=europe-west4"]


def submit(*arguments) -> int:
    return main(["submit", *map(str, arguments)])


@pytest.fixture(autouse=True)
def environment(monkeypatch, tmp_path):
    """No credentials and no settings of whoever runs the tests."""
    names = (
        "GOOGLE_APPLICATION_CREDENTIALS",
        "GOOGLE_CLOUD_PROJECT",
        "KF_PIPELINES_ENDPOINT",
        "KF_PIPELINES_SA_TOKEN_PATH",
    )
    for name in names:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("CLOUDSDK_CONFIG", str(tmp_path))
    monkeypatch.setenv("NO_GCE_CHECK", "true")  # does not look for a metadata server


@pytest.fixture
def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


class FakeVertex(grpc.GenericRpcHandler):
    """CreatePipelineJob alone; `refusal` is a status code and a message."""

    def __init__(self):
        self.requests, self.refusal = [], None

    def service(self, details):
        assert details.method == "/google.cloud.aiplatform.v1.PipelineService/CreatePipelineJob"
        return grpc.unary_unary_rpc_method_handler(
            self._create,
            request_deserializer=aiplatform_v1.CreatePipelineJobRequest.deserialize,
            response_serializer=aiplatform_v1.PipelineJob.serialize,
        )

    def _create(self, request, context):
        self.requests.append(request)
        if self.refusal:
            context.abort(*self.refusal)
        return aiplatform_v1.PipelineJob(name=f"{request.parent}/pipelineJobs/{request.pipeline_job_id}")


@pytest.fixture
def fake_vertex(monkeypatch):
    handler = FakeVertex()
    server = grpc.server(concurrent.futures.ThreadPoolExecutor(1), handlers=[handler])
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    use_vertex_at(port, monkeypatch)
    yield handler
    server.stop(None)


def use_vertex_at(port, monkeypatch):
    channel = grpc.insecure_channel(f"127.0.0.1:{port}")
    transport = PipelineServiceGrpcTransport(channel=channel, credentials=AnonymousCredentials())
    monkeypatch.setattr(vertex, "_make_client", lambda region: aiplatform_v1.PipelineServiceClient(transport=transport))


def test_vertex_gets_the_job_with_parameters_labels_account_and_network(fake_vertex, capfd):
    settings = ["cluster.service_account=runner@shop.iam.gserviceaccount.com", "cluster.labels={team: ads}"]
    settings += ["cluster.network=projects/1/global/networks/main", "cluster.nodes.DimSearch.accelerator=NVIDIA_L4"]
    options = [option for setting in settings for option in ("--set", setting)]

    assert submit(*VERTEX, *options, "--parameter", "budget=0.1", "--parameter", "root=gs://other/root") == 0

    (request,) = fake_vertex.requests
    job = request.pipeline_job
    assert request.parent == "projects/shop/locations/europe-west4"
    assert request.pipeline_job_id.startswith("adult-")
    assert job.display_name == "adult"
    assert job.service_account == "runner@shop.iam.gserviceaccount.com"
    assert job.network == "projects/1/global/networks/main"
    assert job.labels["team"] == "ads"
    assert job.runtime_config.gcs_output_directory == "gs://other/root/artifacts"
    expected = {"budget": "0.1", "data": "gs://bucket/data", "root": "gs://other/root"}
    assert dict(job.runtime_config.parameter_values) == expected
    container = job.pipeline_spec["deploymentSpec"]["executors"]["DimSearch_executor"]["container"]
    assert container["image"] == IMAGE
    assert container["resources"]["accelerator"]["type"] == "NVIDIA_L4"
    page = f"https://console.cloud.google.com/vertex-ai/locations/europe-west4/pipelines/runs/{request.pipeline_job_id}"
    assert page in capfd.readouterr().out


def test_a_dry_run_shows_the_request_and_sends_nothing(fake_vertex, capfd):
    assert submit(*VERTEX, "--parameter", "budget=64MB", "--dry-run") == 0

    shown = json.loads(capfd.readouterr().out)
    assert fake_vertex.requests == []
    assert submit(*VERTEX, "--parameter", "budget=64MB") == 0
    sent = vertex.describe(fake_vertex.requests[0])
    for request in (shown, sent):
        request.pop("pipelineJobId")  # has the time in it
    assert shown == sent
    assert shown["pipelineJob"]["runtimeConfig"]["parameterValues"]["budget"] == '"64MB"'


def test_without_credentials_vertex_tells_how_to_get_them(capfd):
    assert submit(*VERTEX) == 2

    assert "gcloud auth application-default login" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("code", "message"),
    [
        (grpc.StatusCode.PERMISSION_DENIED, "refused permission in projects/shop/locations/europe-west4: no. "),
        (grpc.StatusCode.INVALID_ARGUMENT, "Vertex AI refused the job: no"),
    ],
)
def test_a_refusal_of_vertex_is_told_in_its_words(fake_vertex, code, message, capfd):
    fake_vertex.refusal = (code, "no.")

    assert submit(*VERTEX) == 2
    assert message in capfd.readouterr().err


def test_a_vertex_that_cannot_be_reached_is_told(free_port, monkeypatch, capfd):
    use_vertex_at(free_port, monkeypatch)

    assert submit(*VERTEX) == 2
    assert "Vertex AI cannot be reached at europe-west4-aiplatform.googleapis.com" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--set", "cluster.image=null"], "cluster.image is missing: CsvExampleGen,"),
        (["--set", "cluster.project=null"], "cluster.project is missing"),
        (["--set", "cluster.region=null"], "cluster.region is missing"),
        (["--root", "runs/adult"], "root is 'runs/adult', which the cluster's nodes cannot reach"),
        (
            ["--parameter", "data=s3://bucket/data"],
            "data is 's3://bucket/data', which the cluster's nodes cannot reach",
        ),
        (["--parameter", "budgt=0.1"], "'budgt=0.1' must be data=PATH, budget=BUDGET or root=PATH"),
        (["--parameter", "budget=20%"], "parameter_budget must be a share"),
    ],
)
def test_what_can_only_fail_is_not_sent(options, message, capfd):
    assert submit(*VERTEX, "--dry-run", *options) == 2

    assert message in capfd.readouterr().err


class FakeKubeflow(http.server.BaseHTTPRequestHandler):
    """As much of the API v2beta1 as starting a run needs; what was posted is kept in `server.posted`."""

    def do_GET(self):
        self._answer(200, {} if "experiments" in self.path else {"multi_user": False})

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.posted.append((self.path, body, dict(self.headers)))
        if self.path.endswith("/experiments"):
            self._answer(200, {"experiment_id": "e1", "display_name": body["display_name"]})
        elif self.server.refusal:
            self._answer(self.server.refusal, {"error": "not yours", "code": 7})
        else:
            self._answer(200, {"run_id": "r1", "experiment_id": "e1"})

    def _answer(self, status, body):
        payload = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(payload)))
        self.end_headers()
        self.wfile.write(payload)

    def log_message(self, *arguments):
        pass


@pytest.fixture
def fake_kubeflow():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), FakeKubeflow)
    server.posted, server.refusal = [], None
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()


def kubeflow_options(port) -> list[str]:
    return [*COMMON, "--runner", "kubeflow", "--set", f"cluster.host=http://127.0.0.1:{port}"]


def test_kubeflow_gets_the_run_that_a_dry_run_shows(fake_kubeflow, monkeypatch, tmp_path, capfd):
    (tmp_path / "token").write_text("secret")
    monkeypatch.setenv("KF_PIPELINES_SA_TOKEN_PATH", str(tmp_path / "token"))
    options = kubeflow_options(fake_kubeflow.server_port)
    options += ["--set", "cluster.service_account=runner", "--set", "cluster.nodes.Trainer.node_selector={pool: gpu}"]

    assert submit(*options, "--parameter", "budget=0.1", "--dry-run") == 0
    shown = json.loads(capfd.readouterr().out)
    assert fake_kubeflow.posted == []
    assert submit(*options, "--parameter", "budget=0.1") == 0

    (_, experiment, _), (path, run, headers) = fake_kubeflow.posted
    assert path == "/apis/v2beta1/runs"
    assert headers["authorization"] == "Bearer secret"
    assert experiment["display_name"] == shown["experiment"] == "adult"
    assert run.pop("experiment_id") == "e1"
    assert run.pop("display_name").startswith("adult ")
    shown["run"].pop("display_name")  # has the time in it
    assert run == shown["run"]
    assert run["service_account"] == "runner"
    parameters = {"budget": "0.1", "data": "gs://bucket/data", "root": "gs://bucket/root"}
    assert run["runtime_config"] == {"parameters": parameters, "pipeline_root": "gs://bucket/root/artifacts"}
    assert "Trainer_executor" in json.dumps(run["pipeline_spec"]["platform_spec"])
    assert f"http://127.0.0.1:{fake_kubeflow.server_port}/#/runs/details/r1" in capfd.readouterr().out


def test_a_refusal_of_kubeflow_is_told_in_its_words(fake_kubeflow, capfd):
    fake_kubeflow.refusal = 403

    assert submit(*kubeflow_options(fake_kubeflow.server_port)) == 2
    assert "refused permission (403): not yours" in capfd.readouterr().err


def test_a_kubeflow_that_cannot_be_reached_is_told(free_port, capfd):
    assert submit(*kubeflow_options(free_port)) == 2
    error = capfd.readouterr().err
    assert f"Kubeflow Pipelines cannot be reached at http://127.0.0.1:{free_port}" in error
    assert "kubectl port-forward" in error
