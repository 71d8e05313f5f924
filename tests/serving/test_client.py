"""ServingClient: answers, and errors by cause, over gRPC and REST alike."""

import json
import subprocess
import sys
import threading

import numpy as np
import pytest

from serving.cli import main
from serving.client import ServingClient
from serving.client_errors import (
    ColumnError,
    ModelNotFoundError,
    RequestRejectedError,
    ServerTimeoutError,
    ServerUnavailableError,
    SignatureNotFoundError,
)
from serving.client_options import ClientOptions, ModelChoice
from serving.session import SessionModel
from tests.serving.servers import IS_REAL, find_free_port, run_server
from tests.serving.small_models import expect_scores, save_small_model

SMALL_ROWS = [{"age": 3.0, "city": "Berlin", "code": 7}, {"age": -8.5, "city": "Zürich", "code": -3}, {"code": 2}]
SCHEMES = ["grpc", "http"]
QUICK = ClientOptions(num_attempts=2, backoff_s=0.01)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    directory = tmp_path_factory.mktemp("models")
    save_small_model(directory / "3")
    save_small_model(directory / "4", bias=1.0)
    with run_server(directory, model_name="small", num_versions=2, version_labels={"stable": 3}) as server:
        yield server


@pytest.fixture(params=SCHEMES)
def url(request, server):
    return _find_url(server, request.param)


@pytest.mark.parametrize(
    ("choice", "bias"), [({}, 1.0), ({"version": 3}, 0.0), ({"version": 4}, 1.0), ({"label": "stable"}, 0.0)]
)
def test_rows_are_predicted_by_the_version_or_label_asked_for(url, choice, bias):
    with ServingClient(url, ModelChoice(name="small", **choice)) as client:
        outputs = client.predict(SMALL_ROWS)
    np.testing.assert_allclose(outputs["outputs"][:, 0], expect_scores(SMALL_ROWS, bias), atol=1e-6)


@pytest.mark.parametrize(
    "row",
    [
        {"code": 2, "age": None, "city": None},
        {"code": 2, "age": float("nan"), "city": ""},
        {"code": 2.0, "age": ""},
    ],
)
def test_null_nan_and_empty_text_are_missing(url, row):
    with ServingClient(url, ModelChoice(name="small", version=3)) as client:
        assert client.predict([row])["outputs"][0, 0] == pytest.approx(expect_scores([{"code": 2}])[0], abs=1e-6)


def test_many_outputs_are_named(url):
    with ServingClient(url, ModelChoice(name="small", version=3)) as client:
        outputs = client.predict([{"city": "Zürich"}, {}], "many")
    assert outputs["name_bytes"].tolist() == ["Zürich".encode(), b""]
    assert outputs["outputs"].shape == (2, 1)
    assert outputs["outputs"].dtype == np.float32


@pytest.mark.parametrize(("num_rows", "num_requests"), [(0, 0), (1, 1), (7, 1), (8, 2), (21, 3)])
def test_many_rows_are_split_into_requests_and_joined_in_order(url, monkeypatch, num_rows, num_requests):
    rows = [{"age": float(index), "city": "x" * index, "code": index} for index in range(num_rows)]
    with ServingClient(url, ModelChoice(name="small", version=3), ClientOptions(batch_rows=7)) as client:
        sizes, predict = [], client._transport.predict

        def count(choice, signature, columns):
            sizes.append(len(columns["age"]))
            return predict(choice, signature, columns)

        monkeypatch.setattr(client._transport, "predict", count)
        outputs = client.predict(rows)["outputs"]
    assert len(sizes) == num_requests
    assert max(sizes, default=0) <= 7
    np.testing.assert_allclose(outputs.ravel(), expect_scores(rows), atol=1e-6)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"agee": 3, "code": 1}, "Row 0: unknown column 'agee'; the nearest known: age"),
        ({"xyz": 3}, "the nearest known: age, city, code"),
        ({"age": "old", "code": 1}, "Row 0, column 'age': expected a number or null; received 'old'"),
        ({"age": [1], "code": 1}, r"column 'age': expected a number or null; received \[1\]"),
        ({"city": True, "code": 1}, "column 'city': expected text of whole characters, a number or null"),
        ({"city": "\ud800", "code": 1}, "column 'city': expected text of whole characters"),
        ({"code": 1.5}, "column 'code': expected an integer from -9223372036854775808 to 9223372036854775807"),
        ({"code": 2**63}, "column 'code': expected an integer"),
        ({"code": float("inf")}, "column 'code': expected an integer"),
        ({"code": "x" * 1000}, r"received 'x{76}\.\.\."),
        ({"age": 3}, "column 'code': it has no value, and an input of DT_INT64 without a default needs one"),
    ],
)
def test_wrong_rows_are_rejected_before_anything_is_sent(url, row, message):
    with (
        ServingClient(url, ModelChoice(name="small")) as client,
        pytest.raises(ColumnError, match=message),
    ):
        client.predict([row])


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        ({"name": "other"}, "has no model 'other': .*Servable not found"),
        ({"name": "small", "version": 9}, "has no model 'small' version 9"),
        ({"name": "small", "label": "canary"}, "has no model 'small' label 'canary'"),
        ({"name": "a b/c", "label": "ü"}, "has no model 'a b/c' label 'ü'"),
    ],
)
def test_models_that_are_not_there_are_named(url, choice, message):
    with ServingClient(url, ModelChoice(**choice)) as client, pytest.raises(ModelNotFoundError, match=message):
        client.predict(SMALL_ROWS)


@pytest.mark.parametrize(
    ("signature", "message"),
    [
        ("guess", r"has no signature 'guess'; it has \['classify', 'many', 'predict', 'regress', 'serving_default'\]"),
        ("classify", r"Signature 'classify' takes serialized tf\.Examples, not columns"),
    ],
)
def test_signatures_that_do_not_suit_are_named(url, signature, message):
    with (
        ServingClient(url, ModelChoice(name="small")) as client,
        pytest.raises(SignatureNotFoundError, match=message),
    ):
        client.predict(SMALL_ROWS, signature)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_no_server_is_said_after_all_attempts(scheme):
    url = f"{scheme}://127.0.0.1:{find_free_port()}"
    with (
        ServingClient(url, options=QUICK) as client,
        pytest.raises(ServerUnavailableError, match=f"No server answers at {url} after 2 attempts: .*refused"),
    ):
        client.read_status()


@pytest.mark.skipif(IS_REAL, reason="the real server's graph cannot be slowed")
@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_slow_answer_is_a_timeout(server, scheme, monkeypatch):
    original = SessionModel.fetch
    let_go = threading.Event()
    monkeypatch.setattr(SessionModel, "fetch", lambda *arguments: (let_go.wait(20), original(*arguments))[1])
    options = ClientOptions(timeout_s=0.5)
    with ServingClient(_find_url(server, scheme), ModelChoice(name="small"), options) as client:
        with pytest.raises(ServerTimeoutError, match=r"took longer than 0\.5 s"):
            client.predict(SMALL_ROWS)
        let_go.set()


def test_the_ports_of_grpc_and_rest_are_not_mixed_up_in_silence(server):
    ports = {scheme: _find_url(server, scheme).rsplit(":", 1)[1] for scheme in SCHEMES}
    for url in (f"http://127.0.0.1:{ports['grpc']}", f"grpc://127.0.0.1:{ports['http']}"):
        with ServingClient(url, options=QUICK) as client, pytest.raises(Exception, match=r"(?i)gRPC|http1"):
            client.read_status()


@pytest.mark.skipif(IS_REAL, reason="the real server has no such limit")
@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_request_that_is_too_large_is_rejected_with_the_cure(tmp_path, scheme):
    save_small_model(tmp_path / "1")
    with (
        run_server(tmp_path, max_message_bytes=5000) as server,
        ServingClient(_find_url(server, scheme)) as client,
        pytest.raises(RequestRejectedError, match=r"larger than max.*Send fewer rows a request"),
    ):
        client.predict([{"city": "x" * 100, "code": 1}] * 100)


@pytest.mark.parametrize(
    "url", ["127.0.0.1:8500", "ftp://127.0.0.1:1", "grpc://127.0.0.1", "http://h:1/v1", "http://:8501", "http://h:x"]
)
def test_wrong_urls_are_explained(url):
    with pytest.raises(ValueError, match="must be grpc://host:port or http://host:port"):
        ServingClient(url)


def test_wrong_settings_are_named():
    with pytest.raises(ValueError, match="version or a label, not both"):
        ModelChoice(version=1, label="stable")
    with pytest.raises(ValueError, match="timeout_s must be > 0; received 0"):
        ClientOptions(timeout_s=0)


def test_predict_prints_one_json_line_per_row(url, capsys):
    arguments = ["predict", "--url", url, "--model", "small", "--label", "stable", "--batch-rows", "2"]
    assert main([*arguments, "--json", json.dumps(SMALL_ROWS)]) == 0
    outputs = [json.loads(line)["outputs"] for line in capsys.readouterr().out.splitlines()]
    assert outputs == pytest.approx(expect_scores(SMALL_ROWS).tolist(), abs=1e-6)
    assert main([*arguments, "--signature", "many", "--json", '{"city": "Rom"}']) == 0
    (line,) = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert line == {"name_bytes": "Rom", "outputs": pytest.approx(expect_scores([{"city": "Rom"}])[0])}


def test_status_and_metadata_print_the_same_over_both_protocols(server, capsys):
    printed: dict[str, set[str]] = {"status": set(), "metadata": set()}
    for command, scheme in [(command, scheme) for command in printed for scheme in SCHEMES]:
        assert main([command, "--url", _find_url(server, scheme), "--model", "small", "--version", "3"]) == 0
        printed[command].add(capsys.readouterr().out)
    (status,), (metadata,) = printed["status"], printed["metadata"]
    assert json.loads(status)["model_version_status"][0]["version"] == "3"
    assert json.loads(metadata)["metadata"]["signature_def"]["signature_def"]["predict"]["inputs"]["code"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["predict", "--json", "{}"], "error: Give either the PATH of a SavedModel or the --url of a server.\n"),
        (["predict", "x", "--url", "http://h:1", "--json", "{}"], "error: Give either the PATH"),
        (["status", "--url", "h:1"], "error: --url must be grpc://host:port"),
    ],
)
def test_errors_of_the_command_are_one_line_and_status_2(arguments, message, capsys):
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith(message)
    assert error.count("\n") == 1


@pytest.mark.skipif(IS_REAL, reason="one server suffices")
def test_the_rest_client_needs_neither_tensorflow_nor_grpc(server):
    arguments = ["predict", "--url", server.rest_url, "--model", "small", "--json", '{"code": 2}']
    code = (
        f"import sys, serving.cli\nassert serving.cli.main({arguments!r}) == 0\n"
        "assert not {'tensorflow', 'grpc'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def _find_url(server, scheme: str) -> str:
    return server.grpc_url if scheme == "grpc" else server.rest_url
