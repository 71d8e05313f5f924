"""Whether InfraValidator runs, where, and what the pipeline is then."""

import http.server
import json
import threading

import pytest
from ml_metadata.proto import metadata_store_pb2
from tfx.proto import infra_validator_pb2
from tfx.utils import proto_utils

from pipeline import infra_validation
from pipeline.config import load_config
from pipeline.dag import EXAMPLES_SIGNATURE, Locations, create_pipeline
from pipeline.errors import UserError
from pipeline.infra_validation import decide_infra_validation, find_docker_problem, find_kubernetes_problem
from pipeline.summary import _Node, _tell_infra_validation
from serving.configure import SERVING_VERSION

NO_DOCKER, NO_KUBERNETES = "no Docker daemon answers at the default socket", "this is no pod of Kubeflow Pipelines"


@pytest.fixture
def machine(monkeypatch):
    """Makes this a machine with Docker, with Kubernetes, both or neither."""

    def make(*, docker: bool, kubernetes: bool):
        monkeypatch.setattr(infra_validation, "find_docker_problem", lambda: None if docker else NO_DOCKER)
        monkeypatch.setattr(infra_validation, "find_kubernetes_problem", lambda: None if kubernetes else NO_KUBERNETES)

    return make


@pytest.mark.parametrize(
    ("docker", "kubernetes", "platform", "reason"),
    [
        (True, True, "docker", "InfraValidator runs on docker, which is there"),
        (False, True, "kubernetes", "InfraValidator runs on kubernetes, which is there"),
        (False, False, None, f"InfraValidator is off: {NO_DOCKER}, and {NO_KUBERNETES}"),
    ],
)
def test_auto_takes_what_is_there_and_says_why_there_is_nothing(machine, docker, kubernetes, platform, reason):
    machine(docker=docker, kubernetes=kubernetes)
    decision = decide_infra_validation("auto")
    assert (decision.platform, decision.reason) == (platform, reason)


def test_off_is_off_wherever_it_is(machine):
    machine(docker=True, kubernetes=True)
    assert decide_infra_validation("off").platform is None


@pytest.mark.parametrize("setting", ["docker", "kubernetes"])
def test_what_is_asked_for_must_be_there(machine, setting):
    machine(docker=True, kubernetes=True)
    assert decide_infra_validation(setting).platform == setting
    machine(docker=False, kubernetes=False)
    with pytest.raises(UserError, match=rf"infra_validation={setting}, but .*auto or off"):
        decide_infra_validation(setting)


def test_a_docker_daemon_is_one_that_answers(monkeypatch):
    class Daemon(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            body = b"OK" if self.path.endswith("/_ping") else json.dumps({"ApiVersion": "1.44"}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *arguments):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Daemon) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        monkeypatch.setenv("DOCKER_HOST", f"tcp://127.0.0.1:{server.server_address[1]}")
        found = find_docker_problem()
        server.shutdown()
        thread.join()
    assert found is None
    assert find_docker_problem() == f"no Docker daemon answers at tcp://127.0.0.1:{server.server_address[1]}"


def test_kubernetes_is_there_only_inside_kubeflow(monkeypatch):
    monkeypatch.setattr("tfx.utils.kube_utils.is_inside_kfp", lambda: True)
    assert find_kubernetes_problem() == NO_KUBERNETES
    monkeypatch.setenv("KFP_POD_NAME", "pod")
    monkeypatch.setenv("KFP_NAMESPACE", "kubeflow")
    assert find_kubernetes_problem() is None


@pytest.mark.parametrize("platform", ["docker", "kubernetes"])
def test_infra_validator_gates_the_pusher(platform):
    config = load_config("adult", ["serving.image_tag=2.18.0"])
    pipeline = create_pipeline(config, Locations("data", "csv", "root"), infra_platform=platform)
    nodes = {node.id: node for node in pipeline.components}
    validator, pusher = nodes["InfraValidator"], nodes["Pusher"]

    assert pusher.inputs["infra_blessing"] == validator.outputs["blessing"]
    serving, request = infra_validator_pb2.ServingSpec(), infra_validator_pb2.RequestSpec()
    proto_utils.json_to_proto(validator.exec_properties["serving_spec"], serving)
    proto_utils.json_to_proto(validator.exec_properties["request_spec"], request)
    assert list(serving.tensorflow_serving.tags) == ["2.18.0"]
    assert serving.WhichOneof("serving_platform") == {"docker": "local_docker"}.get(platform, platform)
    assert list(request.tensorflow_serving.signature_names) == [EXAMPLES_SIGNATURE]
    assert request.num_examples == 1


@pytest.mark.parametrize(("blessed", "outcome"), [(1, "loaded it and answered"), (0, "so it was not pushed")])
def test_the_summary_tells_how_infra_validator_went(blessed, outcome):
    blessing = metadata_store_pb2.Artifact()
    blessing.custom_properties["blessed"].int_value = blessed
    told = _tell_infra_validation(load_config("adult"), _Node(1.0, {"blessing": blessing}))
    assert told.startswith(f"InfraValidator: TF Serving {SERVING_VERSION} ")
    assert outcome in told


def test_the_summary_tells_why_there_was_none(machine):
    machine(docker=False, kubernetes=False)
    assert NO_DOCKER in _tell_infra_validation(load_config("adult"), None)


def test_the_pusher_gets_what_the_configuration_says():
    config = load_config("adult", ["serving.keep_versions=null", "serving.warmup_records=7"])
    pipeline = create_pipeline(config, Locations("data", "csv", "root"))
    nodes = {node.id: node for node in pipeline.components}
    assert "InfraValidator" not in nodes
    assert "infra_blessing" not in nodes["Pusher"].inputs
    properties = nodes["Pusher"].exec_properties
    assert (properties["keep_versions"], properties["num_warmup_records"]) == (0, 7)
    assert properties["root"] == "root"
    assert properties["code_version"]
