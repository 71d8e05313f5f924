"""The REST API on the standard library's HTTP server."""

import http.server
import json
import logging
import socketserver
import urllib.parse
from http import HTTPStatus
from typing import Any

import grpc

from serving.local_server.config import LocalServerConfig
from serving.local_server.errors import RequestError, invalid
from serving.local_server.grpc_services import STAND_IN
from serving.local_server.limits import RequestLimit
from serving.local_server.rest_api import answer
from serving.local_server.versions import ModelVersions

_LOG = logging.getLogger(__name__)


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

    def server_bind(self) -> None:
        # Not the base class's, which asks the name service for the host's full name: that may take seconds.
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = str(self.server_address[0]), self.server_address[1]

    def handle_error(self, request: Any, client_address: Any) -> None:
        _LOG.debug("connection of %s ended with an error", client_address, exc_info=True)


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
        except OSError:
            self.close_connection = True  # the client went away, or said nothing for too long
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
