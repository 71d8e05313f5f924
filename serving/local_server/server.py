"""The local server: gRPC, REST and the look-out for new versions, started and stopped as one."""

import contextlib
import logging
import threading

from serving.local_server.config import LocalServerConfig
from serving.local_server.grpc_services import make_grpc_server
from serving.local_server.limits import RequestLimit
from serving.local_server.rest_server import make_rest_server
from serving.local_server.versions import ModelVersions

_LOG = logging.getLogger(__name__)


class LocalServer:
    """Serves a SavedModel in this process, for development; use it as a context manager.

    Args:
        config: what to serve and where.

    Raises:
        SavedModelError: if no version can be loaded.
        OSError: if a port is taken.
    """

    def __init__(self, config: LocalServerConfig):
        self._drain_seconds, self._poll_seconds = config.drain_seconds, config.poll_seconds
        self._limit, self._is_stopping = RequestLimit(config.max_concurrent_requests), threading.Event()
        with contextlib.ExitStack() as undo:
            self.versions = ModelVersions(config.path, config.model_name, config.num_versions, config.version_labels)
            undo.callback(self.versions.close)
            self._rest = make_rest_server(self.versions, config, self._limit)
            undo.callback(self._rest.server_close)
            self._grpc, port = make_grpc_server(self.versions, config)
            undo.pop_all()
        self.grpc_url = f"grpc://{config.host}:{port}"
        self.rest_url = f"http://{config.host}:{self._rest.server_port}"
        self._threads = [
            threading.Thread(target=self._rest.serve_forever, args=(0.1,), name="rest", daemon=True),
            threading.Thread(target=self._poll, name="versions", daemon=True),
        ]

    def __enter__(self) -> "LocalServer":
        self._grpc.start()
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *exc_info) -> None:
        """Takes no new requests, waits for those in progress (`drain_seconds` at most), unloads the model."""
        self._is_stopping.set()
        grpc_stopped = self._grpc.stop(self._drain_seconds)
        self._rest.shutdown()
        self._rest.server_close()
        if not self._limit.wait_until_idle(self._drain_seconds):
            _LOG.warning("REST requests were still in progress after %g s", self._drain_seconds)
        grpc_stopped.wait()
        for thread in self._threads:
            thread.join()
        self.versions.close()

    def _poll(self) -> None:
        while not self._is_stopping.wait(self._poll_seconds):
            try:
                self.versions.refresh()
            except Exception:
                # One bad look at the directory must not end the look-out.
                _LOG.exception("looking for new versions failed")
