"""Asks a TensorFlow Serving (or `python -m serving local`) over gRPC or REST."""

import logging
import time
import urllib.parse
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, TypeVar

import numpy as np

from serving.client_errors import (
    CallError,
    ClientError,
    ModelNotFoundError,
    RequestRejectedError,
    ServerTimeoutError,
    ServerUnavailableError,
    SignatureNotFoundError,
)
from serving.client_options import ClientOptions, ModelChoice
from serving.client_signatures import RemoteSignature, make_columns, read_signatures

_LOG = logging.getLogger(__name__)
_LONGEST_BACKOFF_S = 5.0

T = TypeVar("T")


class _Transport(Protocol):
    def predict(
        self, choice: ModelChoice, signature: str, columns: Mapping[str, np.ndarray]
    ) -> dict[str, np.ndarray]: ...

    def read_status(self, choice: ModelChoice) -> dict[str, Any]: ...

    def read_metadata(self, choice: ModelChoice) -> dict[str, Any]: ...

    def close(self) -> None: ...


class ServingClient:
    """A model on a server; use it as a context manager, from one thread.

    Args:
        url: grpc://host:port or http://host:port.
        choice: which model; default: the newest version of "default".
        options: timeout, attempts, rows a request.

    Raises:
        ValueError: if the URL is no such one.
    """

    def __init__(self, url: str, choice: ModelChoice | None = None, options: ClientOptions | None = None):
        self._url, self._choice, self._options = url, choice or ModelChoice(), options or ClientOptions()
        self._transport = _connect(url, self._options.timeout_s)
        self._signatures: dict[str, RemoteSignature] | None = None

    def __enter__(self) -> "ServingClient":
        return self

    def __exit__(self, *exc_info) -> None:
        self._transport.close()

    def predict(self, rows: Sequence[Mapping[str, Any]], signature: str = "predict") -> dict[str, np.ndarray]:
        """Runs a signature of raw columns on rows, in requests of at most `batch_rows`.

        Absent columns, null and NaN are missing: they are sent as the signature's defaults, else as "" or NaN.

        Args:
            rows: {column: JSON value} each.
            signature: its name.

        Returns:
            {output: [B, ...]} in the order of `rows`.

        Raises:
            ColumnError: if a column is unknown or a value does not suit it; nothing was sent then.
            SignatureNotFoundError: if the model has no such signature; the message names those it has.
            ClientError: as the other subclasses say.
        """
        found = self._find_signature(signature)
        columns = make_columns(found, rows)
        size, parts = self._options.batch_rows, []
        for start in range(0, len(rows), size):
            batch = {name: column[start : start + size] for name, column in columns.items()}
            parts.append(self._predict_batch(signature, batch))
        if len(found.outputs) == 1:  # which REST leaves unnamed
            parts = [dict(zip(found.outputs, part.values(), strict=True)) for part in parts]
        return {
            name: np.concatenate([part[name].astype(dtype) for part in parts]) if parts else np.empty([0], dtype)
            for name, dtype in found.outputs.items()
        }

    def read_status(self) -> dict[str, Any]:
        """{"model_version_status": [{"version", "state", "status"}, ...]}, as the REST API gives it."""
        return self._call(lambda: self._transport.read_status(self._choice))

    def read_metadata(self) -> dict[str, Any]:
        """{"model_spec", "metadata": {"signature_def": {"signature_def": {name: ...}}}}, as the REST API gives it."""
        return self._call(lambda: self._transport.read_metadata(self._choice))

    def _find_signature(self, name: str) -> RemoteSignature:
        if self._signatures is None or name not in self._signatures:
            self._signatures = read_signatures(self.read_metadata())
        if name not in self._signatures:
            raise SignatureNotFoundError(
                f"The {self._choice} at {self._url} has no signature {name!r}; it has {list(self._signatures)}."
            )
        return self._signatures[name]

    def _predict_batch(self, signature: str, batch: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        try:
            return self._call(lambda: self._transport.predict(self._choice, signature, batch))
        except RequestRejectedError:
            self._signatures = None  # a new version may take other columns
            raise

    def _call(self, attempt: Callable[[], T]) -> T:
        """Calls, again while the server is UNAVAILABLE; other errors are final."""
        for number in range(1, self._options.num_attempts + 1):
            try:
                return attempt()
            except CallError as error:
                if error.code != "UNAVAILABLE" or number == self._options.num_attempts:
                    raise self._explain(error, number) from error
                delay_s = min(self._options.backoff_s * 2 ** (number - 1), _LONGEST_BACKOFF_S)
                _LOG.info("%s is unavailable (%s); attempt %d in %.2g s", self._url, error, number + 1, delay_s)
                time.sleep(delay_s)
        raise AssertionError("num_attempts is at least 1")

    def _explain(self, error: CallError, num_attempts: int) -> ClientError:
        if error.code == "UNAVAILABLE":
            return ServerUnavailableError(
                f"No server answers at {self._url} after {num_attempts} attempts: {error}."
                " Is it running, and is that its port? `python -m serving local PATH` starts one."
            )
        if error.code == "DEADLINE_EXCEEDED":
            return ServerTimeoutError(
                f"{self._url} took longer than {self._options.timeout_s:g} s ({error}). Raise the timeout, or send"
                " fewer rows a request."
            )
        if error.code == "NOT_FOUND" or "version label" in str(error):
            return ModelNotFoundError(
                f"{self._url} has no {self._choice}: {error}. `status` shows what versions a model has."
            )
        if error.code == "RESOURCE_EXHAUSTED":
            return RequestRejectedError(f"{self._url}: {error}. Send fewer rows a request, or fewer requests at once.")
        if error.code in ("INVALID_ARGUMENT", "FAILED_PRECONDITION", "OUT_OF_RANGE"):
            return RequestRejectedError(f"{self._url} refused the request to the {self._choice}: {error}")
        return ClientError(f"{self._url} failed with {error.code}: {error}")


def _connect(url: str, timeout_s: float) -> _Transport:
    parts = urllib.parse.urlsplit(url)
    try:
        port = parts.port
    except ValueError:
        port = None
    if parts.scheme not in ("grpc", "http") or not parts.hostname or not port or parts.path.strip("/") or parts.query:
        raise ValueError(f"--url must be grpc://host:port or http://host:port; received {url!r}.")
    # Each brings its own imports: REST needs neither TensorFlow nor gRPC.
    if parts.scheme == "grpc":
        from serving.client_grpc import GrpcTransport

        return GrpcTransport(parts.netloc, timeout_s)
    from serving.client_rest import RestTransport

    return RestTransport(parts.netloc, timeout_s)
