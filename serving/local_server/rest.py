"""TensorFlow Serving's REST API on the standard library's HTTP server."""

import http.server
import json
import logging
import re
import urllib.parse
from http import HTTPStatus
from typing import Any

import grpc
from google.protobuf import json_format
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_pb2,
    predict_pb2,
    regression_pb2,
)

from serving.local_server import inference
from serving.local_server.config import LocalServerConfig
from serving.local_server.errors import RequestError, invalid
from serving.local_server.grpc_services import STAND_IN
from serving.local_server.json_arrays import shorten
from serving.local_server.json_requests import parse_body, read_examples, read_inputs, write_outputs
from serving.local_server.limits import RequestLimit
from serving.local_server.versions import ModelVersions

_LOG = logging.getLogger(__name__)

_MODEL = r"(?i:/v1/models)/(?P<name>[^/:]+)(?:/versions/(?P<version>\d+)|/labels/(?P<label>[^/:]+))?"
_POST = re.compile(_MODEL + r":(?P<method>classify|regress|predict)")
_GET = re.compile(_MODEL + r"(?P<metadata>/metadata)?")


def answer(versions: ModelVersions, verb: str, path: str, body: bytes) -> dict[str, Any]:
    """The JSON answer to one request.

    Raises:
        RequestError: with the code that TF Serving gives.
    """
    found = (_POST if verb == "POST" else _GET).fullmatch(path)
    if not found:
        raise invalid(f"Malformed request: {verb} {path}")
    spec = _read_spec(found["name"], found["version"], found["label"])
    if verb == "GET":
        return _describe_metadata(versions, spec) if found["metadata"] else _describe_status(versions, spec)
    document = parse_body(body)
    spec.signature_name = document.get("signature_name", "")
    return {"predict": _predict, "classify": _classify, "regress": _regress}[found["method"]](versions, spec, document)


def make_rest_server(
    versions: ModelVersions, config: LocalServerConfig, limit: RequestLimit
) -> http.server.ThreadingHTTPServer:
    """A server that is bound but does not serve yet.

    Raises:
        OSError: if the address is taken.
    """

    class Handler(_Handler):
        pass

    Handler.versions, Handler.limit, Handler.max_bytes = versions, limit, config.max_message_bytes
    try:
        server = _Server((config.host, config.rest_port), Handler)
    except OSError as error:
        where = f"{config.host}:{config.rest_port}"
        raise OSError(f"REST cannot listen on {where}: {error.strerror}. Choose another port.") from error
    return server


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = True  # an idle connection must not hold up a stop
    request_queue_size = 128


class _Handler(http.server.BaseHTTPRequestHandler):
    versions: ModelVersions
    limit: RequestLimit
    max_bytes: int

    protocol_version = "HTTP/1.1"
    server_version = "python-m-serving-local"
    timeout = 60  # of a connection that says nothing
    wbufsize = -1  # headers and body in one packet
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        self._serve()

    def do_POST(self) -> None:
        self._serve()

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """What the base class refuses (other methods, broken request lines), as JSON instead of HTML."""
        self.close_connection = True
        self._send(code, {"error": message or HTTPStatus(code).phrase})

    def _serve(self) -> None:
        try:
            path = urllib.parse.urlsplit(self.path).path
            body = self._read_body()
            if not path.lower().startswith("/v1/"):
                raise RequestError(grpc.StatusCode.NOT_FOUND, f"Not Found: {path}")
            with self.limit.admit():
                document, status = answer(self.versions, self.command, path, body), 200
        except RequestError as error:
            document, status = {"error": str(error)}, error.http_status
        except ConnectionError:
            self.close_connection = True
            return
        except Exception:
            _LOG.exception("%s %s failed", self.command, self.path)
            document, status = {"error": "The server failed on this request; its log says why."}, 500
        self._send(status, document)

    def _read_body(self) -> bytes:
        length = self.headers.get("Content-Length", "0")
        for header in ("Transfer-Encoding", "Content-Encoding"):
            if self.headers.get(header, "identity") != "identity":
                self.close_connection = True  # where the body ends is not known
                raise RequestError(
                    grpc.StatusCode.UNIMPLEMENTED, f"This development server takes no {header}: send Content-Length."
                )
        if not length.isdecimal() or len(length) > 18:
            self.close_connection = True
            raise invalid(f"Content-Length must be a number; received {length[:40]!r}")
        if int(length) > self.max_bytes:
            self.close_connection = True
            raise RequestError(
                grpc.StatusCode.RESOURCE_EXHAUSTED,
                f"Received message larger than max ({length} vs. {self.max_bytes} bytes). Split it.",
            )
        return self.rfile.read(int(length))

    def _send(self, status: int, document: dict[str, Any]) -> None:
        content = json.dumps(document, indent=1).encode()
        phrase = HTTPStatus(status).phrase if status in set(HTTPStatus) else "Client Closed Request"
        try:
            self.send_response(status, phrase)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.send_header("X-Development-Server", STAND_IN)
            if self.close_connection:
                self.send_header("Connection", "close")
            self.end_headers()
            self.wfile.write(content)
            self.wfile.flush()
        except OSError:
            self.close_connection = True  # the client went away

    def log_message(self, format: str, *arguments: Any) -> None:
        _LOG.debug(format, *arguments)


def _read_spec(name: str, version: str | None, label: str | None) -> model_pb2.ModelSpec:
    spec = model_pb2.ModelSpec(name=urllib.parse.unquote(name))
    if version:
        if int(version[:20]) >= 2**63:
            raise invalid(f"Failed to convert version: {version[:40]} to numeric.")
        spec.version.value = int(version)
    elif label:
        spec.version_label = urllib.parse.unquote(label)
    return spec


def _predict(versions: ModelVersions, spec: model_pb2.ModelSpec, document: dict) -> dict[str, Any]:
    name = spec.signature_name or "serving_default"
    with versions.lease(spec) as (number, model):
        if name not in model.signatures:
            raise invalid(
                f'Serving signature name: "{name}" not found in signature def. The model has {sorted(model.signatures)}'
            )
        inputs, is_row = read_inputs(document, model.meta_graph.signature_def[name].inputs)
        spec.version.value = number  # the newest may change before the request runs
        response = inference.predict(versions, predict_pb2.PredictRequest(model_spec=spec, inputs=inputs))
    return write_outputs(response.outputs, is_row)


def _classify(versions: ModelVersions, spec: model_pb2.ModelSpec, document: dict) -> dict[str, Any]:
    request = classification_pb2.ClassificationRequest(model_spec=spec)
    read_examples(document, request.input)
    result = inference.classify(versions, request).result
    return {"results": [[[c.label, shorten(c.score)] for c in row.classes] for row in result.classifications]}


def _regress(versions: ModelVersions, spec: model_pb2.ModelSpec, document: dict) -> dict[str, Any]:
    request = regression_pb2.RegressionRequest(model_spec=spec)
    read_examples(document, request.input)
    return {"results": [shorten(row.value) for row in inference.regress(versions, request).result.regressions]}


def _describe_status(versions: ModelVersions, spec: model_pb2.ModelSpec) -> dict[str, Any]:
    response = inference.get_status(versions, get_model_status_pb2.GetModelStatusRequest(model_spec=spec))
    return _to_dict(response)


def _describe_metadata(versions: ModelVersions, spec: model_pb2.ModelSpec) -> dict[str, Any]:
    request = get_model_metadata_pb2.GetModelMetadataRequest(model_spec=spec, metadata_field=["signature_def"])
    response = inference.get_metadata(versions, request)
    signatures = get_model_metadata_pb2.SignatureDefMap()
    response.metadata["signature_def"].Unpack(signatures)
    return {"model_spec": _to_dict(response.model_spec), "metadata": {"signature_def": _to_dict(signatures)}}


def _to_dict(message) -> dict[str, Any]:
    return json_format.MessageToDict(
        message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
    )
