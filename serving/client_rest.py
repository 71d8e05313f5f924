"""One attempt of each call over the REST API. Needs neither TensorFlow nor gRPC."""

import base64
import http.client
import json
import urllib.parse
from collections.abc import Mapping
from typing import Any

import numpy as np

from serving.client_errors import CallError
from serving.client_options import ModelChoice

_CODES = {
    400: "INVALID_ARGUMENT",
    404: "NOT_FOUND",
    408: "DEADLINE_EXCEEDED",
    413: "RESOURCE_EXHAUSTED",
    429: "RESOURCE_EXHAUSTED",
    501: "UNIMPLEMENTED",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}


class RestTransport:
    """Calls TensorFlow Serving's REST API over HTTP, keeping the connection.

    Args:
        address: host:port.
        timeout_s: of each call.
    """

    def __init__(self, address: str, timeout_s: float):
        self._connection = http.client.HTTPConnection(address, timeout=timeout_s)

    def predict(self, choice: ModelChoice, signature: str, columns: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """The outputs of one request; a single output, which REST leaves unnamed, is called ""."""
        inputs = {name: _write_column(column) for name, column in columns.items()}
        body = json.dumps({"signature_name": signature, "inputs": inputs}).encode()
        outputs = self._call("POST", f"{_make_path(choice)}:predict", body)["outputs"]
        named = outputs if isinstance(outputs, dict) else {"": outputs}
        return {name: _read_output(value) for name, value in named.items()}

    def read_status(self, choice: ModelChoice) -> dict[str, Any]:
        """The states of versions."""
        return self._call("GET", _make_path(choice))

    def read_metadata(self, choice: ModelChoice) -> dict[str, Any]:
        """The signatures."""
        return self._call("GET", f"{_make_path(choice)}/metadata")

    def close(self) -> None:
        """Closes the connection."""
        self._connection.close()

    def _call(self, verb: str, path: str, body: bytes | None = None) -> dict[str, Any]:
        try:
            self._connection.request(verb, path, body, {"Content-Type": "application/json"} if body else {})
            response = self._connection.getresponse()
            content = response.read()
        except TimeoutError as error:
            self._connection.close()
            raise CallError("DEADLINE_EXCEEDED", "no answer in time") from error
        except http.client.BadStatusLine as error:
            self._connection.close()
            # A connection that was kept and has ended meanwhile is a RemoteDisconnected: a new one may well work.
            is_closed = isinstance(error, http.client.RemoteDisconnected)
            raise CallError(
                "UNAVAILABLE" if is_closed else "UNKNOWN", f"no HTTP answer ({error}); is this the port of gRPC?"
            ) from error
        except (OSError, http.client.HTTPException) as error:
            self._connection.close()
            raise CallError("UNAVAILABLE", str(error)) from error
        return _read_answer(response.status, content)


def _read_answer(status: int, content: bytes) -> dict[str, Any]:
    try:
        document = json.loads(content)
        message = document.get("error") if status != 200 else None
    except (ValueError, AttributeError):
        document, message = None, content[:200].decode("utf-8", "replace")
    if status != 200:
        raise CallError(_CODES.get(status, "UNKNOWN"), f"HTTP {status}: {message}")
    if document is None:
        raise CallError("UNKNOWN", f"HTTP 200, but no JSON object: {message}. Is this a TensorFlow Serving REST port?")
    return document


def _make_path(choice: ModelChoice) -> str:
    path = f"/v1/models/{urllib.parse.quote(choice.name, safe='')}"
    if choice.version is not None:
        return f"{path}/versions/{choice.version}"
    return f"{path}/labels/{urllib.parse.quote(choice.label, safe='')}" if choice.label is not None else path


def _write_column(column: np.ndarray) -> list:
    if column.dtype != object:
        return column.tolist()
    cells = [_write_bytes(cell) for cell in column.ravel()]
    return cells if column.ndim == 1 else [[cell] for cell in cells]


def _write_bytes(cell: bytes) -> str | dict[str, str]:
    try:
        return cell.decode()
    except UnicodeDecodeError:
        return {"b64": base64.b64encode(cell).decode()}


def _read_output(value: Any) -> np.ndarray:
    leaf = value
    while isinstance(leaf, list) and leaf:
        leaf = leaf[0]
    # Python's own bytes: NumPy's would lose zero bytes at the end.
    return np.array(_read_text(value), object) if isinstance(leaf, str | dict) else np.array(value)


def _read_text(value: Any) -> Any:
    if isinstance(value, list):
        return [_read_text(item) for item in value]
    return base64.b64decode(value["b64"]) if isinstance(value, dict) else value.encode()
