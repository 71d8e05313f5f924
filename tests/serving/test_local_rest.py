"""The local server's REST API: paths, formats, status codes."""

import base64
import http.client
import json
import re
import socket
import struct
import urllib.request

import numpy as np
import pytest

from tests.serving.servers import IS_REAL, run_server, send
from tests.serving.small_models import expect_scores, save_small_model

ROWS = [{"age": 3.0, "city": "Berlin", "code": 7}, {"age": -8.5, "city": "Zürich", "code": -3}]
PREDICT = "/v1/models/small:predict"


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    directory = tmp_path_factory.mktemp("models")
    save_small_model(directory / "3")
    with run_server(directory, model_name="small", version_labels={"stable": 3}) as server:
        yield server


@pytest.mark.parametrize("path", ["small", "small/versions/3", "small/labels/stable"])
def test_rows_are_predicted_by_model_version_and_label(server, path):
    status, document = send(server, f"/v1/models/{path}:predict", {"instances": ROWS})
    assert status == 200
    np.testing.assert_allclose(np.array(document["predictions"])[:, 0], expect_scores(ROWS), atol=1e-6)


def test_columns_are_predicted(server):
    columns = {name: [row[name] for row in ROWS] for name in ROWS[0]}
    status, document = send(server, PREDICT, {"signature_name": "predict", "inputs": columns})
    assert status == 200
    np.testing.assert_allclose(np.array(document["outputs"])[:, 0], expect_scores(ROWS), atol=1e-6)


def test_a_single_input_needs_no_name_and_many_outputs_are_named(server):
    body = {"signature_name": "many", "instances": ["Rome", {"b64": base64.b64encode(b"\xff\x00").decode()}]}
    status, document = send(server, PREDICT, body)
    assert status == 200
    expected = expect_scores([{"city": "Rome"}, {"city": "??"}])
    assert [row["name_bytes"] for row in document["predictions"]] == [{"b64": "Um9tZQ=="}, {"b64": "/wA="}]
    np.testing.assert_allclose([row["outputs"][0] for row in document["predictions"]], expected, atol=1e-6)
    status, document = send(server, PREDICT, {"signature_name": "many", "inputs": ["Rome"]})
    assert status == 200
    assert document["outputs"]["name_bytes"] == [{"b64": "Um9tZQ=="}]


def test_numbers_are_written_as_short_as_float32_allows(server):
    body = {"instances": [{"age": 0.0, "city": "", "code": 0}]}
    assert send(server, PREDICT, body)[1] == {"predictions": [[0.5]]}
    body["instances"][0]["age"] = 1.0
    assert len(repr(send(server, PREDICT, body)[1]["predictions"][0][0])) <= 11


def test_nan_and_infinity_are_numbers(server):
    rows = [{"age": float("nan"), "city": "", "code": 0}, {"age": float("inf"), "city": "", "code": 0}]
    assert send(server, PREDICT, {"instances": rows})[1]["predictions"] == [[0.5], [0.5]]


def test_classify_and_regress_take_examples(server):
    status, document = send(server, "/v1/models/small:regress", {"signature_name": "regress", "examples": ROWS})
    assert status == 200
    np.testing.assert_allclose(document["results"], expect_scores(ROWS), atol=1e-6)
    body = {"signature_name": "classify", "context": {"city": "Berlin"}, "examples": [{"age": [3.0], "code": 7}]}
    status, document = send(server, "/v1/models/small:classify", body)
    assert status == 200
    (zero, one) = document["results"][0]
    assert (zero[0], one[0]) == ("0", "1")
    assert [zero[1] + one[1], one[1]] == pytest.approx([1, expect_scores(ROWS[:1])[0]], abs=1e-6)


def test_status_and_metadata_have_tf_servings_form(server):
    expected = {"version": "3", "state": "AVAILABLE", "status": {"error_code": "OK", "error_message": ""}}
    for path in ("/v1/models/small", "/v1/models/small/versions/3"):
        assert send(server, path) == (200, {"model_version_status": [expected]})
    status, document = send(server, "/v1/models/small/metadata")
    assert status == 200
    assert document["model_spec"] == {"name": "small", "signature_name": "", "version": "3"}
    age = document["metadata"]["signature_def"]["signature_def"]["predict"]["inputs"]["age"]
    assert age["dtype"] == "DT_FLOAT"
    assert age["tensor_shape"] == {"dim": [{"name": "", "size": "-1"}], "unknown_rank": False}


@pytest.mark.parametrize(
    ("path", "body", "status", "message"),
    [
        (PREDICT, b"", 400, "JSON Parse error: The document is empty"),
        (PREDICT, b"{", 400, "JSON Parse error"),
        (PREDICT, b"\xff", 400, "JSON Parse error"),
        (PREDICT, b"[" * 100_000, 400, "JSON"),
        (PREDICT, [], 400, "Is not object"),
        (PREDICT, {}, 400, "Missing 'inputs' or 'instances' key"),
        (PREDICT, {"inputs": {}, "instances": []}, 400, "xpecting only"),
        (PREDICT, {"signature_name": 1, "instances": [1]}, 400, "'signature_name' key must be a string value"),
        (PREDICT, {"signature_name": "nothing", "instances": [1]}, 400, "not found in signature def"),
        (PREDICT, {"instances": {}}, 400, "to be an? list/array"),
        (PREDICT, {"instances": []}, 400, "No values in 'instances' array"),
        (PREDICT, {"instances": [1]}, 400, "plain list"),
        (PREDICT, {"instances": [ROWS[0], 1]}, 400, "Expecting object"),
        (PREDICT, {"instances": [{"code": 1}]}, 400, "keys must be equal to"),
        (PREDICT, {"instances": [{**ROWS[0], "town": ""}]}, 400, "town"),
        (PREDICT, {"inputs": {"code": [1]}}, 400, "Missing named input: (age|city)"),
        (PREDICT, {"inputs": [1]}, 400, "plain value/list"),
        (PREDICT, {"instances": [{**ROWS[0], "age": "3"}]}, 400, "is not of expected type: float"),
        (PREDICT, {"instances": [{**ROWS[0], "age": None}]}, 400, "is not of expected type: float"),
        (PREDICT, {"instances": [{**ROWS[0], "age": 2**24 + 1}]}, 400, "without loss of precision"),
        (PREDICT, {"instances": [{**ROWS[0], "code": 7.0}]}, 400, "is not of expected type: int64"),
        (PREDICT, {"instances": [{**ROWS[0], "code": 2**63}]}, 400, "is not of expected type: int64"),
        (PREDICT, {"instances": [{**ROWS[0], "city": {"b64": "?"}}]}, 400, "base64"),
        (PREDICT, {"inputs": {"age": [[1.0], [2.0, 3.0]], "city": [""], "code": [1]}}, 400, "unexpected size"),
        (PREDICT, {"inputs": {"age": [[1.0]], "city": [""], "code": [1]}}, 400, "shape"),
        ("/v1/models/other:predict", {"instances": ROWS}, 404, "Servable not found for request: Latest"),
        ("/v1/models/small/versions/4:predict", {"instances": ROWS}, 404, "not found for request: Specific"),
        ("/v1/models/small/labels/canary:predict", {"instances": ROWS}, 400, "Unrecognized servable version label"),
        ("/v1/models/small/versions/99999999999999999999:predict", {}, 400, "Failed to convert version"),
        ("/v1/models/small:guess", {}, 400, "Malformed request: POST /v1/models/small:guess"),
        ("/v1/models/small:predict", None, 400, "Malformed request: GET"),
        ("/v1/models/other", None, 404, "Could not find any versions of model other"),
        ("/v1/models/other/metadata", None, 404, "Servable not found"),
        ("/v1/models/small:classify", {"signature_name": "classify"}, 400, "examples"),
        ("/v1/models/small:regress", {"examples": [{"code": [1, "x"]}]}, 400, "Unexpected element type in feature"),
        ("/v1/models/small:regress", {"examples": [3]}, 400, "Example must be JSON object"),
    ],
)
def test_wrong_requests_have_tf_servings_status_and_a_json_error(server, path, body, status, message):
    received, document = send(server, path, body)
    assert received == status
    assert list(document) == ["error"]
    assert re.search(message, document["error"]), document["error"]


@pytest.mark.skipif(IS_REAL, reason="the real server is no stand-in")
def test_every_answer_says_that_it_is_from_a_stand_in(server):
    with urllib.request.urlopen(server.rest_url + "/v1/models/small") as response:
        assert "not for production" in response.headers["X-Development-Server"]


@pytest.mark.skipif(IS_REAL, reason="the real server answers these in other words, or takes them")
@pytest.mark.parametrize(
    ("verb", "path", "headers", "status"),
    [
        ("PUT", PREDICT, {}, 501),
        ("GET", "/", {}, 404),
        ("POST", PREDICT, {"Transfer-Encoding": "chunked"}, 501),
        ("POST", PREDICT, {"Content-Encoding": "gzip"}, 501),
        ("POST", PREDICT, {"Content-Length": "-1"}, 400),
        ("POST", PREDICT, {"Content-Length": str(2**40)}, 429),
        ("GET", "/v1/" + "a" * 70_000, {}, 414),
    ],
)
def test_what_the_stand_in_cannot_read_is_refused_in_json(server, verb, path, headers, status):
    connection = http.client.HTTPConnection(server.rest_url.removeprefix("http://"), timeout=10)
    connection.putrequest(verb, path)
    for name, value in headers.items():
        connection.putheader(name, value)
    connection.endheaders()
    response = connection.getresponse()
    assert response.status == status
    assert b'"error"' in response.read()
    connection.close()


def test_a_connection_outlives_a_refused_request(server):
    connection = http.client.HTTPConnection(server.rest_url.removeprefix("http://"), timeout=10)
    statuses = []
    for body in (b"{", json.dumps({"instances": ROWS}).encode()):
        connection.request("POST", PREDICT, body)
        response = connection.getresponse()
        response.read()
        statuses.append(response.status)
    connection.close()
    assert statuses == [400, 200]


def test_a_client_that_hangs_up_in_the_middle_disturbs_nobody(server, capfd):
    host, port = server.rest_url.removeprefix("http://").split(":")
    for start in (b"", b"POST", b"POST " + PREDICT.encode() + b" HTTP/1.1\r\nContent-Length: 100\r\n\r\n{"):
        with socket.create_connection((host, int(port)), timeout=10) as connection:
            connection.sendall(start)
            # A reset instead of an orderly end: what the server writes then fails.
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    assert send(server, PREDICT, {"instances": ROWS})[0] == 200
    assert "Traceback" not in capfd.readouterr().err
