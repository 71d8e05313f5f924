"""Servers for tests: the real TensorFlow Serving where its binary is, else the stand-in, in this process."""

import contextlib
import json
import socket
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any

import grpc

from serving.client import ServingClient
from serving.client_options import ClientOptions, ModelChoice
from serving.local_server.config import LocalServerConfig
from serving.local_server.real import RealServer, find_real_server
from serving.local_server.server import LocalServer

IS_REAL = find_real_server() is not None


@contextlib.contextmanager
def run_server(path, **options) -> Iterator[LocalServer | RealServer]:
    """A server of `path`, answering, on free ports."""
    binary = find_real_server()
    if not binary:
        with LocalServer(LocalServerConfig(path=path, port=0, rest_port=0, **options)) as server:
            yield server
        return
    config = LocalServerConfig(path=path, port=find_free_port(), rest_port=find_free_port(), **options)
    with RealServer(binary, config) as real:
        choice = ModelChoice(name=config.model_name)
        for url in (real.grpc_url, real.rest_url):
            with ServingClient(url, choice, ClientOptions(num_attempts=20)) as client:
                client.read_metadata()
        yield real


def find_free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def open_channel(server) -> grpc.Channel:
    return grpc.insecure_channel(server.grpc_url.removeprefix("grpc://"))


def send(server, path: str, body: Any = None) -> tuple[int, Any]:
    """Status and JSON of a GET, or of a POST of a body: bytes, or what JSON writes."""
    data = body if isinstance(body, bytes | None) else json.dumps(body).encode()
    request = urllib.request.Request(server.rest_url + path, data, {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=30) as response:
            return response.status, json.loads(response.read())
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.loads(error.read())
