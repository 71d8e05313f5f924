"""Errors of requests, with the codes that TensorFlow Serving gives them."""

import grpc
import tensorflow as tf

from serving.session import describe_error

_HTTP_STATUS = {
    grpc.StatusCode.CANCELLED: 499,
    grpc.StatusCode.INVALID_ARGUMENT: 400,
    grpc.StatusCode.DEADLINE_EXCEEDED: 504,
    grpc.StatusCode.NOT_FOUND: 404,
    grpc.StatusCode.ALREADY_EXISTS: 409,
    grpc.StatusCode.PERMISSION_DENIED: 403,
    grpc.StatusCode.RESOURCE_EXHAUSTED: 429,
    grpc.StatusCode.FAILED_PRECONDITION: 400,
    grpc.StatusCode.ABORTED: 409,
    grpc.StatusCode.OUT_OF_RANGE: 400,
    grpc.StatusCode.UNIMPLEMENTED: 501,
    grpc.StatusCode.UNAVAILABLE: 503,
    grpc.StatusCode.UNAUTHENTICATED: 401,
}
_BY_NUMBER = {code.value[0]: code for code in grpc.StatusCode}


class RequestError(Exception):
    """A request cannot be answered: a gRPC code, and what to say."""

    def __init__(self, code: grpc.StatusCode, message: str):
        super().__init__(message)
        self.code = code

    @property
    def http_status(self) -> int:
        """The status that TF Serving's REST API gives for the code; 500 for those that it does not map."""
        return _HTTP_STATUS.get(self.code, 500)


def invalid(message: str) -> RequestError:
    """The commonest: INVALID_ARGUMENT (400)."""
    return RequestError(grpc.StatusCode.INVALID_ARGUMENT, message)


def from_tensorflow(error: Exception) -> RequestError:
    """An error of running a graph: TensorFlow's code, or INVALID_ARGUMENT where Python refused to feed a value."""
    if isinstance(error, tf.errors.OpError):
        return RequestError(_BY_NUMBER.get(error.error_code, grpc.StatusCode.UNKNOWN), describe_error(error))
    return invalid(str(error) or type(error).__name__)
