"""One attempt of each call over gRPC."""

from collections.abc import Callable, Mapping
from typing import Any

import grpc
import numpy as np
import tensorflow as tf
from google.protobuf import json_format
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)

from serving.client_errors import CallError
from serving.client_options import ModelChoice


class GrpcTransport:
    """Calls TensorFlow Serving's gRPC services, without TLS.

    Args:
        address: host:port.
        timeout_s: of each call.
    """

    def __init__(self, address: str, timeout_s: float):
        self._timeout_s = timeout_s
        self._channel = grpc.insecure_channel(
            address,
            options=[
                ("grpc.max_receive_message_length", -1),
                ("grpc.max_send_message_length", -1),
                ("grpc.enable_http_proxy", 0),  # as over REST: model servers are asked directly
                ("grpc.enable_retries", 0),  # the client's own are the only ones
                # gRPC waits between connections by itself; longer than the client's back-off would void its attempts.
                ("grpc.initial_reconnect_backoff_ms", 100),
                ("grpc.min_reconnect_backoff_ms", 100),
                ("grpc.max_reconnect_backoff_ms", 1000),
            ],
        )
        self._prediction = prediction_service_pb2_grpc.PredictionServiceStub(self._channel)
        self._models = model_service_pb2_grpc.ModelServiceStub(self._channel)

    def predict(self, choice: ModelChoice, signature: str, columns: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """The outputs of one request."""
        request = predict_pb2.PredictRequest(model_spec=_make_spec(choice))
        request.model_spec.signature_name = signature
        for name, column in columns.items():
            request.inputs[name].CopyFrom(
                tf.make_tensor_proto(column, tf.string if column.dtype == object else None, column.shape)
            )
        response = self._call(self._prediction.Predict, request)
        return {name: tf.make_ndarray(proto) for name, proto in response.outputs.items()}

    def read_status(self, choice: ModelChoice) -> dict[str, Any]:
        """The states of versions, as the REST API writes them."""
        request = get_model_status_pb2.GetModelStatusRequest(model_spec=_make_spec(choice))
        return _to_dict(self._call(self._models.GetModelStatus, request))

    def read_metadata(self, choice: ModelChoice) -> dict[str, Any]:
        """The signatures, as the REST API writes them."""
        request = get_model_metadata_pb2.GetModelMetadataRequest(
            model_spec=_make_spec(choice), metadata_field=["signature_def"]
        )
        response = self._call(self._prediction.GetModelMetadata, request)
        signatures = get_model_metadata_pb2.SignatureDefMap()
        response.metadata["signature_def"].Unpack(signatures)
        return {"model_spec": _to_dict(response.model_spec), "metadata": {"signature_def": _to_dict(signatures)}}

    def close(self) -> None:
        """Closes the connection."""
        self._channel.close()

    def _call(self, method: Callable, request) -> Any:
        try:
            return method(request, timeout=self._timeout_s)
        except grpc.RpcError as error:
            raise CallError(error.code().name, error.details() or "") from error


def _make_spec(choice: ModelChoice) -> model_pb2.ModelSpec:
    spec = model_pb2.ModelSpec(name=choice.name)
    if choice.version is not None:
        spec.version.value = choice.version
    elif choice.label is not None:
        spec.version_label = choice.label
    return spec


def _to_dict(message) -> dict[str, Any]:
    return json_format.MessageToDict(
        message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
    )
