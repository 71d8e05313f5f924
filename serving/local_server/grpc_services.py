"""TensorFlow Serving's gRPC services, on its generated classes."""

import logging
from collections.abc import Callable
from concurrent import futures

import grpc
from tensorflow_serving.apis import model_service_pb2_grpc, prediction_service_pb2_grpc

from serving.local_server import inference
from serving.local_server.config import LocalServerConfig
from serving.local_server.errors import RequestError
from serving.local_server.versions import ModelVersions

_LOG = logging.getLogger(__name__)

STAND_IN = "development stand-in for TensorFlow Serving, not for production"


class _PredictionService(prediction_service_pb2_grpc.PredictionServiceServicer):
    def __init__(self, versions: ModelVersions):
        self._versions = versions

    def Predict(self, request, context):  # noqa: N802 (the generated base class's names)
        return _answer(inference.predict, self._versions, request, context)

    def Classify(self, request, context):  # noqa: N802
        return _answer(inference.classify, self._versions, request, context)

    def Regress(self, request, context):  # noqa: N802
        return _answer(inference.regress, self._versions, request, context)

    def MultiInference(self, request, context):  # noqa: N802
        return _answer(inference.multi_inference, self._versions, request, context)

    def GetModelMetadata(self, request, context):  # noqa: N802
        return _answer(inference.get_metadata, self._versions, request, context)


class _ModelService(model_service_pb2_grpc.ModelServiceServicer):
    def __init__(self, versions: ModelVersions):
        self._versions = versions

    def GetModelStatus(self, request, context):  # noqa: N802
        return _answer(inference.get_status, self._versions, request, context)

    def HandleReloadConfigRequest(self, request, context):  # noqa: N802
        context.abort(grpc.StatusCode.UNIMPLEMENTED, "This development server takes no new configuration.")


def _answer(call: Callable, versions: ModelVersions, request, context: grpc.ServicerContext):
    context.send_initial_metadata((("x-development-server", STAND_IN),))
    try:
        return call(versions, request)
    except RequestError as error:
        context.abort(error.code, str(error))
    except Exception:
        # The cause is for the server's log: a client gets no stack trace.
        _LOG.exception("%s failed", call.__name__)
        context.abort(grpc.StatusCode.INTERNAL, "The server failed on this request; its log says why.")


def make_grpc_server(versions: ModelVersions, config: LocalServerConfig) -> tuple[grpc.Server, int]:
    """A server that is bound but not started, and its port.

    Raises:
        OSError: if the address is taken.
    """
    server = grpc.server(
        futures.ThreadPoolExecutor(config.max_concurrent_requests, thread_name_prefix="grpc"),
        maximum_concurrent_rpcs=config.max_concurrent_requests,
        options=[
            ("grpc.max_receive_message_length", config.max_message_bytes),
            ("grpc.max_send_message_length", -1),
            ("grpc.so_reuseport", 0),  # else a second server on the port would start, and take half of the requests
        ],
    )
    prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(_PredictionService(versions), server)
    model_service_pb2_grpc.add_ModelServiceServicer_to_server(_ModelService(versions), server)
    try:
        return server, server.add_insecure_port(f"{config.host}:{config.port}")
    except RuntimeError as error:
        raise OSError(
            f"gRPC cannot listen on {config.host}:{config.port}: is the port taken? Choose another."
        ) from error
