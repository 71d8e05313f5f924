"""What can go wrong when a server is asked, by cause."""


class ClientError(Exception):
    """A model server could not answer; the message says why and what to do."""


class ServerUnavailableError(ClientError, ConnectionError):
    """No server answers at the URL, also after all attempts."""


class ServerTimeoutError(ClientError, TimeoutError):
    """The server took longer than the timeout."""


class ModelNotFoundError(ClientError):
    """The server has no such model, version or label."""


class SignatureNotFoundError(ClientError):
    """The model has no such signature, or it takes something other than columns."""


class ColumnError(ClientError, ValueError):
    """A row has a column that the signature lacks, or a value that does not suit it."""


class RequestRejectedError(ClientError):
    """The server refused the request: its inputs, or its size."""


class CallError(Exception):
    """One attempt failed: the name of a gRPC status code, and the server's or the network's words."""

    def __init__(self, code: str, message: str):
        super().__init__(message)
        self.code = code
