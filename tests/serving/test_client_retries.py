"""When ServingClient asks again, and how long it waits: servers that fail a number of times first."""

import contextlib
import http.server
import json
import threading
import time
from concurrent import futures

import grpc
import pytest
from tensorflow_serving.apis import get_model_status_pb2, model_service_pb2_grpc

from serving.client import ServingClient
from serving.client_errors import ClientError, ServerUnavailableError
from serving.client_options import ClientOptions

HTTP_STATUS = {"UNAVAILABLE": 503, "INTERNAL": 500, "RESOURCE_EXHAUSTED": 429, "INVALID_ARGUMENT": 400, "ABORTED": 409}


@contextlib.contextmanager
def serve_grpc(codes, port=0):
    class Models(model_service_pb2_grpc.ModelServiceServicer):
        def GetModelStatus(self, request, context):  # noqa: N802
            if codes:
                context.abort(grpc.StatusCode[codes.pop(0)], "as told")
            return get_model_status_pb2.GetModelStatusResponse(model_version_status=[{"version": 1}])

    server = grpc.server(futures.ThreadPoolExecutor(1))
    model_service_pb2_grpc.add_ModelServiceServicer_to_server(Models(), server)
    port = server.add_insecure_port(f"127.0.0.1:{port}")
    server.start()
    try:
        yield f"grpc://127.0.0.1:{port}"
    finally:
        server.stop(None).wait()


@contextlib.contextmanager
def serve_http(codes, port=0):
    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self):
            body = {"error": "as told"} if codes else {"model_version_status": [{"version": "1"}]}
            content = json.dumps(body).encode()
            self.send_response(HTTP_STATUS[codes.pop(0)] if codes else 200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *arguments):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", port), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture(params=[serve_grpc, serve_http])
def serve(request):
    return request.param


@pytest.fixture
def waits(monkeypatch):
    """The seconds that the client waits; it does not wait really."""
    waited: list[float] = []
    monkeypatch.setattr(time, "sleep", waited.append)
    return waited


def test_an_unavailable_server_is_asked_again_after_twice_the_time(serve, waits):
    codes = ["UNAVAILABLE"] * 3
    with serve(codes) as url, ServingClient(url, options=ClientOptions(num_attempts=4, backoff_s=0.1)) as client:
        assert client.read_status()["model_version_status"][0]["version"] == "1"
    assert waits == pytest.approx([0.1, 0.2, 0.4])


def test_the_attempts_are_limited(serve, waits):
    codes = ["UNAVAILABLE"] * 9
    with (
        serve(codes) as url,
        ServingClient(url, options=ClientOptions(num_attempts=3, backoff_s=4.0)) as client,
        pytest.raises(ServerUnavailableError, match=r"after 3 attempts: .*as told"),
    ):
        client.read_status()
    assert len(codes) == 6
    assert waits == [4.0, 5.0]


@pytest.mark.parametrize("code", ["INTERNAL", "RESOURCE_EXHAUSTED", "INVALID_ARGUMENT", "ABORTED"])
def test_other_errors_are_final(serve, waits, code):
    codes = [code] * 2
    with serve(codes) as url, ServingClient(url) as client, pytest.raises(ClientError, match="as told"):
        client.read_status()
    assert len(codes) == 1
    assert waits == []


def test_a_server_that_starts_late_is_found(serve):
    with serve([]) as url:
        pass  # its port is known, and free again
    answers = []

    def ask():
        with ServingClient(url, options=ClientOptions(num_attempts=60, backoff_s=0.05)) as client:
            answers.append(client.read_status())

    thread = threading.Thread(target=ask)
    thread.start()
    time.sleep(0.3)
    with serve([], int(url.rsplit(":", 1)[1])):
        thread.join(30)
    assert answers
