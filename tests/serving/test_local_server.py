"""The local server as a whole: new versions, limits, stopping, its command, and the real server in its place."""

import contextlib
import pathlib
import re
import signal
import stat
import subprocess
import sys
import threading
import time

import grpc
import pytest
import tensorflow as tf
from google.protobuf import text_format
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc
from tensorflow_serving.config import model_server_config_pb2

from serving.cli import main
from serving.client import ServingClient
from serving.client_errors import ModelNotFoundError
from serving.client_options import ModelChoice
from serving.local_server.config import LocalServerConfig
from serving.local_server.real import RealServer, find_real_server
from serving.local_server.server import LocalServer
from serving.session import SessionModel
from tests.serving.servers import find_free_port, open_channel, run_server, send
from tests.serving.small_models import expect_scores, save_small_model

ROW = {"age": 3.0, "city": "Berlin", "code": 7}
BODY = {"instances": [ROW]}


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    directory = tmp_path_factory.mktemp("models")
    save_small_model(directory / "1")
    return directory


@pytest.fixture
def slow_model(monkeypatch):
    """Requests that are in progress until they are let go: events `started` and `let_go`."""
    started, let_go = threading.Event(), threading.Event()
    original = SessionModel.fetch

    def fetch(self, feeds, tensors):
        started.set()
        assert let_go.wait(20)
        return original(self, feeds, tensors)

    monkeypatch.setattr(SessionModel, "fetch", fetch)
    yield started, let_go
    let_go.set()


def test_a_new_version_is_served_while_requests_go_on(tmp_path):
    save_small_model(tmp_path / "1")
    with run_server(tmp_path, poll_seconds=0.05) as server, ServingClient(server.grpc_url) as client:
        expected = [float(expect_scores([ROW], bias)[0]) for bias in (0.0, 1.0)]
        answers = [float(client.predict([ROW])["outputs"][0, 0])]
        save_small_model(tmp_path / "staged", bias=1.0)
        (tmp_path / "staged").rename(tmp_path / "2")
        deadline = time.monotonic() + 30
        while answers[-1] < sum(expected) / 2 and time.monotonic() < deadline:
            answers.append(float(client.predict([ROW])["outputs"][0, 0]))
        assert answers[:-1] == pytest.approx([expected[0]] * (len(answers) - 1), abs=1e-6)
        assert answers[-1] == pytest.approx(expected[1], abs=1e-6)
        with ServingClient(server.rest_url, ModelChoice(version=2)) as pinned:
            assert pinned.predict([ROW])["outputs"][0, 0] == pytest.approx(expected[1], abs=1e-6)
        with (
            ServingClient(server.rest_url, ModelChoice(version=1)) as pinned,
            pytest.raises(ModelNotFoundError),
        ):
            pinned.predict([ROW])


def test_requests_beyond_the_limit_are_refused_not_queued(models, slow_model):
    started, let_go = slow_model
    config = LocalServerConfig(path=models, port=0, rest_port=0, max_concurrent_requests=1)
    with LocalServer(config) as server, open_channel(server) as channel:
        answers = []
        rest = threading.Thread(target=lambda: answers.append(send(server, "/v1/models/default:predict", BODY)))
        rest.start()
        assert started.wait(20)
        assert send(server, "/v1/models/default:predict", BODY)[0] == 429
        started.clear()
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        first = stub.Predict.future(_make_request())
        assert started.wait(20)
        with pytest.raises(grpc.RpcError) as caught:
            stub.Predict(_make_request())
        assert caught.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
        let_go.set()
        rest.join()
        assert first.result().outputs
        assert answers[0][0] == 200
        assert send(server, "/v1/models/default:predict", BODY)[0] == 200
        assert stub.Predict(_make_request()).outputs


def test_messages_beyond_the_limit_are_refused(models):
    config = LocalServerConfig(path=models, port=0, rest_port=0, max_message_bytes=10_000)
    with LocalServer(config) as server, open_channel(server) as channel:
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        with pytest.raises(grpc.RpcError) as caught:
            stub.Predict(_make_request(city="x" * 20_000))
        assert caught.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
        status, document = send(server, "/v1/models/default:predict", b" " * 10_001)
        assert status == 429
        assert "larger than max (10001 vs. 10000 bytes)" in document["error"]
        assert stub.Predict(_make_request()).outputs


def test_requests_in_progress_are_answered_before_a_stop(models, slow_model):
    started, let_go = slow_model
    answers = []
    with LocalServer(LocalServerConfig(path=models, port=0, rest_port=0)) as server:
        rest = threading.Thread(target=lambda: answers.append(send(server, "/v1/models/default:predict", BODY)))
        rest.start()
        assert started.wait(20)
        threading.Timer(0.3, let_go.set).start()
    rest.join()
    assert answers[0][0] == 200
    with pytest.raises(OSError, match="refused"):
        send(server, "/v1/models/default")


def test_an_unexpected_error_is_internal_and_tells_the_client_no_secrets(models, monkeypatch):
    def fail(self, feeds, tensors):
        raise ZeroDivisionError("inner workings")

    with LocalServer(LocalServerConfig(path=models, port=0, rest_port=0)) as server, open_channel(server) as channel:
        monkeypatch.setattr(SessionModel, "fetch", fail)
        status, document = send(server, "/v1/models/default:predict", BODY)
        assert status == 500
        with pytest.raises(grpc.RpcError) as caught:
            prediction_service_pb2_grpc.PredictionServiceStub(channel).Predict(_make_request())
        assert caught.value.code() == grpc.StatusCode.INTERNAL
        assert "inner workings" not in document["error"] + caught.value.details()


def test_a_taken_port_is_named(models):
    with LocalServer(LocalServerConfig(path=models, port=0, rest_port=0)) as server:
        grpc_port, rest_port = (int(url.rsplit(":", 1)[1]) for url in (server.grpc_url, server.rest_url))
        for taken, message in (
            ({"port": grpc_port, "rest_port": 0}, f"gRPC cannot listen on 127.0.0.1:{grpc_port}"),
            ({"port": 0, "rest_port": rest_port}, f"REST cannot listen on 127.0.0.1:{rest_port}"),
        ):
            with pytest.raises(OSError, match=message):
                LocalServer(LocalServerConfig(path=models, **taken))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"port": -1}, "port must be 0"),
        ({"rest_port": 70_000}, "rest_port must be 0"),
        ({"num_versions": 0}, "num_versions must be > 0; received 0"),
        ({"poll_seconds": 0}, "poll_seconds must be > 0"),
        ({"host": "::1"}, "host must be a name or an IPv4 address"),
        ({"model_name": "a/b"}, "model_name must be text without"),
    ],
)
def test_wrong_settings_are_named(changes, message):
    with pytest.raises(ValueError, match=message):
        LocalServerConfig(path="models", **changes)


def test_the_command_serves_says_what_it_is_and_stops_on_sigterm(models, capsys):
    command = [sys.executable, "-m", "serving", "local", str(models), "--port", "0", "--rest-port", "0"]
    command += ["--host", "127.0.0.2"]
    environment = {"PATH": "/nowhere", "PYTHONPATH": str(pathlib.Path(__file__).parents[2])}
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment) as run:
        try:
            lines = [run.stdout.readline() for _ in range(4)]
            assert lines[0] == "development stand-in for TensorFlow Serving, not for production\n"
            urls = [re.search(r"(grpc|http)://127.0.0.2:\d+", line)[0] for line in lines[1:3]]
            assert lines[3] == f"versions [1] of {models}\n"
            for url in urls:
                assert main(["status", "--url", url]) == 0
                assert '"AVAILABLE"' in capsys.readouterr().out
        finally:
            run.send_signal(signal.SIGTERM)
            rest, errors = run.communicate(timeout=30)
    assert run.returncode == 0, errors
    assert "stopping" in rest
    assert "warning: 127.0.0.2 may be reached from other machines" in errors


def test_help_says_that_it_is_not_for_production(capsys):
    with pytest.raises(SystemExit):
        main(["local", "--help"])
    assert "DEVELOPMENT STAND-IN, NOT FOR PRODUCTION" in capsys.readouterr().out


def test_the_real_server_is_found_by_name_or_on_the_path(tmp_path):
    binary = _write_program(tmp_path / "tensorflow_model_server", "")
    assert find_real_server({"PATH": str(tmp_path)}) == binary
    assert find_real_server({"PATH": "/nowhere"}) is None
    assert find_real_server({"PATH": "/nowhere", "TF_SERVING_BINARY": binary}) == binary
    with pytest.raises(FileNotFoundError, match="TF_SERVING_BINARY names '/nowhere/server'"):
        find_real_server({"TF_SERVING_BINARY": "/nowhere/server"})


@pytest.mark.parametrize("path", ["", "1"])
def test_the_real_server_gets_the_same_settings(models, tmp_path, path):
    # Stands for the binary: it keeps what it was given, then waits for its end as a server does.
    binary = _write_program(
        tmp_path / "server",
        f"""
import pathlib, shutil, signal, sys, time
(config,) = [x.partition("=")[2] for x in sys.argv if x.startswith("--model_config_file=")]
shutil.copy(config, {str(tmp_path / "config")!r})
written = pathlib.Path({str(tmp_path / "written")!r})
written.write_text("\\n".join(sys.argv[1:]))
written.rename({str(tmp_path / "arguments")!r})
time.sleep(60)
""",
    )
    config = LocalServerConfig(
        path=models / path, port=81, rest_port=82, model_name="small", num_versions=2, version_labels={"stable": 1}
    )
    with RealServer(binary, config) as server:
        deadline = time.monotonic() + 20
        while not (tmp_path / "arguments").exists() and time.monotonic() < deadline:
            time.sleep(0.02)
        parsed = text_format.Parse((tmp_path / "config").read_text(), model_server_config_pb2.ModelServerConfig())
        (model,) = parsed.model_config_list.config
        assert (pathlib.Path(model.base_path) / "1" / "saved_model.pb").exists()
    assert server.process.returncode == -signal.SIGTERM
    assert (server.grpc_url, server.rest_url) == ("grpc://127.0.0.1:81", "http://127.0.0.1:82")
    arguments = (tmp_path / "arguments").read_text().splitlines()
    assert {"--port=81", "--rest_api_port=82", "--allow_version_labels_for_unavailable_models=true"} < set(arguments)
    assert (model.name, model.model_platform) == ("small", "tensorflow")
    assert model.model_version_policy.latest.num_versions == 2
    assert dict(model.version_labels) == {"stable": 1}


def test_the_command_runs_the_real_server_and_says_so(models, tmp_path, capsys, monkeypatch):
    binary = _write_program(tmp_path / "server", "import sys; sys.exit(3)")
    monkeypatch.setenv("TF_SERVING_BINARY", binary)
    ports = ["--port", str(find_free_port()), "--rest-port", str(find_free_port())]
    with _kept_signal_handlers():
        assert main(["local", str(models), *ports]) == 2
        captured = capsys.readouterr()
        assert captured.out.startswith(f"{binary}, listening on all addresses\n")
        assert f"{binary} ended with exit status 3." in captured.err
        assert main(["local", str(models), "--port", "0"]) == 2
        assert "cannot choose a free port itself" in capsys.readouterr().err


@pytest.mark.parametrize("label", ["stable", "=1", "stable=one"])
def test_a_wrong_label_is_explained(models, label, capsys):
    with _kept_signal_handlers():
        assert main(["local", str(models), "--version-label", label]) == 2
    assert "--version-label needs LABEL=VERSION" in capsys.readouterr().err


@contextlib.contextmanager
def _kept_signal_handlers():
    numbers = (signal.SIGINT, signal.SIGTERM)
    saved = [signal.getsignal(number) for number in numbers]
    try:
        yield
    finally:
        for number, handler in zip(numbers, saved, strict=True):
            signal.signal(number, handler)


def _write_program(path: pathlib.Path, code: str) -> str:
    path.write_text(f"#!{sys.executable}\n{code}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return str(path)


def _make_request(city: str = "Berlin") -> predict_pb2.PredictRequest:
    request = predict_pb2.PredictRequest(model_spec={"name": "default"})
    request.inputs["city"].CopyFrom(tf.make_tensor_proto([city]))
    request.inputs["code"].CopyFrom(tf.make_tensor_proto([7], tf.int64))
    return request
