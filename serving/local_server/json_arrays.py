"""JSON values to arrays and back, by the rules of TensorFlow Serving's REST API."""

import base64
import binascii
import itertools
from typing import Any

import numpy as np
import tensorflow as tf

from serving.local_server.errors import invalid

# TF Serving refuses integers that a float would round.
_LARGEST_INTEGER = {tf.float32: 2**24 - 1, tf.float64: 2**53 - 1}


def is_base64(value: Any) -> bool:
    """Whether a JSON value is {"b64": text}: bytes, not an object of named inputs."""
    return isinstance(value, dict) and list(value) == ["b64"] and isinstance(value["b64"], str)


def decode_base64(value: dict[str, str]) -> bytes:
    """The bytes of {"b64": text}.

    Raises:
        RequestError: INVALID_ARGUMENT if the text is no base64.
    """
    try:
        return base64.b64decode(value["b64"], validate=True)
    except (binascii.Error, ValueError) as error:
        raise invalid("Unable to base64 decode") from error


def read_array(value: Any, dtype: tf.DType) -> np.ndarray:
    """A scalar or equally nested lists as an array.

    Raises:
        RequestError: INVALID_ARGUMENT if a value is not of the dtype, or lists differ in length or depth.
    """
    shape, first = [], value
    while isinstance(first, list):
        shape.append(len(first))
        first = first[0] if first else None
    values = [value]
    for level, size in enumerate(shape):
        for item in values:
            if not isinstance(item, list):
                raise invalid(f"JSON Value: {_quote(item)} found at incorrect level: {level}; expected a list")
            if len(item) != size:
                raise invalid(
                    f"Encountered list at unexpected size: {len(item)} at level: {level} expected size: {size}"
                )
        values = list(itertools.chain.from_iterable(values))
    if dtype == tf.string:
        return np.array([_read_bytes(item) for item in values], object).reshape(shape)
    return np.array([_read_number(item, dtype) for item in values], dtype.as_numpy_dtype).reshape(shape)


def write_array(array: np.ndarray, is_bytes: bool) -> Any:
    """An array as JSON: nested lists, or a scalar.

    Args:
        array: any shape.
        is_bytes: whether strings become {"b64": text} instead of text.
    """
    if array.dtype == object:
        encode = _write_base64 if is_bytes else _write_text
        flat = np.empty(array.size, object)
        flat[:] = [encode(item) for item in array.ravel()]
        return flat.reshape(array.shape).tolist()
    if array.dtype == np.float32:
        flat = np.array([shorten(item) for item in array.ravel()], np.float64)
        return flat.reshape(array.shape).tolist()
    return array.tolist()


def shorten(value: float) -> float:
    """The shortest decimal that gives a float32 back: 0.2, not 0.20000000298023224."""
    return float(str(np.float32(value)))


def _read_bytes(item: Any) -> bytes:
    if is_base64(item):
        return decode_base64(item)
    if not isinstance(item, str):
        raise _type_error(item, tf.string)
    try:
        return item.encode()
    except UnicodeEncodeError as error:
        raise invalid(f"JSON Parse error: The surrogate pair in string is invalid: {_quote(item)}") from error


def _read_number(item: Any, dtype: tf.DType) -> bool | int | float:
    if dtype == tf.bool:
        is_right = isinstance(item, bool)
    elif dtype.is_floating:
        is_right = isinstance(item, int | float) and not isinstance(item, bool)
    else:
        is_right = isinstance(item, int) and not isinstance(item, bool) and dtype.min <= item <= dtype.max
    if not is_right:
        raise _type_error(item, dtype)
    if dtype.is_floating:
        is_exact = not isinstance(item, int) or abs(item) <= _LARGEST_INTEGER.get(dtype, 0)
        if not is_exact or dtype.max < abs(item) < float("inf"):
            raise invalid(f"Cannot convert JSON value: {_quote(item)} to {dtype.name} without loss of precision.")
    return item


def _type_error(item: Any, dtype: tf.DType) -> Exception:
    kind = {dict: "Object", list: "Array", str: "String", bool: str(item), type(None): "Null"}.get(type(item), "Number")
    return invalid(f"JSON Value: {_quote(item)} Type: {kind} is not of expected type: {dtype.name}")


def _quote(item: Any) -> str:
    text = repr(item) if not isinstance(item, int) else hex(item)[:60] if abs(item) >= 2**64 else str(item)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _write_base64(item: bytes) -> dict[str, str]:
    return {"b64": base64.b64encode(item).decode()}


def _write_text(item: bytes) -> str:
    return item.decode("utf-8", "replace")
