"""TensorProtos to arrays and back, with the checks that a Session in Python leaves out."""

import math
from collections.abc import Mapping

import grpc
import numpy as np
import tensorflow as tf
from tensorflow.core.framework import tensor_pb2
from tensorflow.core.protobuf import meta_graph_pb2

from serving.local_server.errors import RequestError, invalid

# TF Serving answers in typed fields, not in tensor_content, and clients read these fields directly.
_FIELDS = {
    tf.float32: "float_val",
    tf.float64: "double_val",
    tf.int64: "int64_val",
    tf.int32: "int_val",
    tf.int16: "int_val",
    tf.int8: "int_val",
    tf.uint8: "int_val",
    tf.uint32: "uint32_val",
    tf.uint64: "uint64_val",
    tf.bool: "bool_val",
    tf.string: "string_val",
}
# A few bytes of request can claim a shape of any size: one value stands for all.
_MAX_ELEMENTS = 2**26


def make_feeds(signature: meta_graph_pb2.SignatureDef, inputs: Mapping) -> dict[str, np.ndarray]:
    """{graph tensor: array} of a request's TensorProtos; absent inputs are the signature's defaults, if it has them.

    Raises:
        RequestError: INVALID_ARGUMENT if an input is missing, unknown, of another dtype, or broken.
    """
    expected, sent = set(signature.inputs), set(inputs)
    if len(sent) > len(expected) or (len(sent) < len(expected) and not signature.defaults):
        raise invalid(
            f"input size does not match signature: {len(sent)}!={len(expected)}."
            f" Sent extra: {_braces(sent - expected)}. Missing but required: {_braces(expected - sent)}."
        )
    feeds = {}
    for alias, info in signature.inputs.items():
        if alias in inputs:
            feeds[info.name] = _to_array(alias, inputs[alias], info)
        elif alias in signature.defaults:
            feeds[info.name] = _to_array(alias, signature.defaults[alias], info)
        else:
            raise invalid(
                f"Signature input alias: {alias} not found in request and no default value provided. Inputs in the"
                f" request: {_braces(sent)}, default input alias set: {_braces(set(signature.defaults))}"
            )
    if sent - expected:
        raise invalid(
            f"Inputs contains invalid name: {_braces(sent - expected)}; the signature has {_braces(expected)}"
        )
    return feeds


def make_proto(array: np.ndarray) -> tensor_pb2.TensorProto:
    """The TensorProto of an output, in typed fields."""
    dtype = tf.as_dtype(array.dtype) if array.dtype != object else tf.string
    if dtype not in _FIELDS:
        return tf.make_tensor_proto(array)
    proto = tensor_pb2.TensorProto(dtype=dtype.as_datatype_enum, tensor_shape=tf.TensorShape(array.shape).as_proto())
    getattr(proto, _FIELDS[dtype]).extend(array.ravel().tolist())
    return proto


def _to_array(alias: str, proto: tensor_pb2.TensorProto, info: meta_graph_pb2.TensorInfo) -> np.ndarray:
    if proto.dtype != info.dtype:
        raise invalid(f"Input {alias!r}: expects {_name(info.dtype)} but {_name(proto.dtype)} is provided.")
    sizes = [axis.size for axis in proto.tensor_shape.dim]
    if proto.tensor_shape.unknown_rank or min(sizes, default=0) < 0:
        raise invalid(f"tensor parsing error: {alias}: its shape must be known; received {sizes}.")
    if math.prod(sizes) > _MAX_ELEMENTS:
        raise RequestError(
            grpc.StatusCode.RESOURCE_EXHAUSTED, f"Input {alias!r}: shape {sizes} has over {_MAX_ELEMENTS} values."
        )
    try:
        array = tf.make_ndarray(proto)
        if not tf.TensorShape(info.tensor_shape).is_compatible_with(array.shape):
            raise invalid(f"Input {alias!r}: shape {sizes} does not suit {tf.TensorShape(info.tensor_shape)}.")
        return array
    except (ValueError, TypeError, IndexError, OverflowError) as error:
        raise invalid(f"tensor parsing error: {alias}: {error}") from error


def _name(dtype: int) -> str:
    try:
        return tf.as_dtype(dtype).name
    except TypeError:
        return f"type {dtype}"


def _braces(names: set[str]) -> str:
    return "{" + ",".join(sorted(names)) + "}"
