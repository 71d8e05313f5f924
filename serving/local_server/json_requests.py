"""Bodies of the REST API to protos of the gRPC API, and answers back."""

import json
from collections.abc import Mapping
from typing import Any

import tensorflow as tf
from tensorflow.core.framework import tensor_pb2

from serving.local_server.errors import RequestError, invalid
from serving.local_server.json_arrays import is_base64, read_array, write_array
from serving.local_server.tensors import make_proto

_INT64 = range(-(2**63), 2**63)


def parse_body(body: bytes) -> dict[str, Any]:
    """A request's body as a JSON object; `signature_name`, where given, is text.

    Raises:
        RequestError: INVALID_ARGUMENT.
    """
    if not body:
        raise invalid("JSON Parse error: The document is empty")
    try:
        document = json.loads(body.decode())
    except RecursionError as error:
        raise invalid("JSON Parse error: nested too deep") from error
    except ValueError as error:  # no UTF-8, no JSON, or an integer too long to read
        raise invalid(f"JSON Parse error: {error}") from error
    if not isinstance(document, dict):
        raise invalid("JSON Value: Is not object")
    if not isinstance(document.get("signature_name", ""), str):
        raise invalid("JSON Value: not formatted correctly. 'signature_name' key must be a string value.")
    return document


def read_inputs(document: Mapping[str, Any], infos: Mapping) -> tuple[dict[str, tensor_pb2.TensorProto], bool]:
    """The input tensors of a predict body, and whether it has the row format (`instances`) or the columnar (`inputs`).

    As in TF Serving, every input of the signature must be there: SignatureDef.defaults are for gRPC only.

    Raises:
        RequestError: INVALID_ARGUMENT.
    """
    is_row = "instances" in document
    if is_row == ("inputs" in document):
        either = "Expecting only one of 'inputs' or 'instances' keys to exist"
        raise invalid(either if is_row else "Missing 'inputs' or 'instances' key")
    values = _read_instances(document["instances"], set(infos)) if is_row else _read_columns(document["inputs"], infos)
    return {name: _make_input(name, value, infos[name].dtype) for name, value in values.items()}, is_row


def write_outputs(outputs: Mapping, is_row: bool) -> dict[str, Any]:
    """The answer to a predict body, in its own format.

    Raises:
        RequestError: INVALID_ARGUMENT if the row format is asked for and outputs differ in their number of rows.
    """
    arrays = {name: tf.make_ndarray(proto) for name, proto in sorted(outputs.items())}
    columns = {name: write_array(array, name.endswith("_bytes")) for name, array in arrays.items()}
    if not is_row:
        return {"outputs": columns if len(columns) > 1 else next(iter(columns.values()))}
    for name, array in arrays.items():
        if array.ndim == 0:
            raise invalid(f"Tensor name: {name} has no shape information")
    if len({len(array) for array in arrays.values()}) > 1:
        sizes = {name: len(array) for name, array in arrays.items()}
        raise invalid(f"Outputs have inconsistent batch sizes: {sizes}; use the columnar format, 'inputs'")
    if len(columns) == 1:
        return {"predictions": next(iter(columns.values()))}
    return {"predictions": [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]}


def read_examples(document: Mapping[str, Any], target) -> None:
    """Fills `target`, an Input proto, with the tf.Examples of a classify or regress body.

    Raises:
        RequestError: INVALID_ARGUMENT.
    """
    examples = document.get("examples")
    if not isinstance(examples, list) or not examples:
        raise invalid("Expecting 'examples' value to be a list/array that is not empty")
    if "context" in document:
        target.example_list_with_context.context.CopyFrom(_make_example(document["context"]))
        target.example_list_with_context.examples.extend(_make_example(example) for example in examples)
    else:
        target.example_list.examples.extend(_make_example(example) for example in examples)


def _read_instances(instances: Any, names: set[str]) -> dict[str, Any]:
    if not isinstance(instances, list):
        raise invalid("Expecting 'instances' to be a list/array")
    if not instances:
        raise invalid("No values in 'instances' array")
    are_objects = isinstance(instances[0], dict) and not is_base64(instances[0])
    if not are_objects and len(names) > 1:
        raise invalid(
            f"instances is a plain list, but expecting list of objects as multiple input tensors required: {names}"
        )
    for index, instance in enumerate(instances):
        if (isinstance(instance, dict) and not is_base64(instance)) != are_objects:
            raise invalid(f"Expecting {'object' if are_objects else 'value/list'} at item {index} of input list")
        if are_objects and instance.keys() != names:
            unknown, missing = sorted(instance.keys() - names), sorted(names - instance.keys())
            raise invalid(
                f"Failed to process element: {index} of 'instances' list. keys must be equal to:"
                f" {','.join(sorted(names))}. Unknown: {unknown[:8]}; missing: {missing}"
            )
    if not are_objects:
        return {next(iter(names)): instances}
    return {name: [instance[name] for instance in instances] for name in names}


def _read_columns(columns: Any, infos: Mapping) -> dict[str, Any]:
    if not isinstance(columns, dict) or is_base64(columns):
        if len(infos) > 1:
            raise invalid(
                "inputs is a plain value/list, but expecting an object as multiple input tensors required:"
                f" {sorted(infos)}"
            )
        return {next(iter(infos)): columns}
    for name in infos:
        if name not in columns:
            raise invalid(f"Missing named input: {name} in 'inputs' object.")
    return {name: columns[name] for name in infos}  # TF Serving, too, ignores others here


def _make_input(name: str, value: Any, dtype: int) -> tensor_pb2.TensorProto:
    try:
        return make_proto(read_array(value, tf.as_dtype(dtype)))
    except RequestError as error:
        raise invalid(f"Failed to process key: {name}. Error: {error}") from error


def _make_example(value: Any) -> tf.train.Example:
    if not isinstance(value, dict):
        raise invalid("Example must be JSON object")
    example = tf.train.Example()
    for name, content in value.items():
        items = content if isinstance(content, list) else [content]
        try:
            feature = example.features.feature[name]
        except ValueError as error:  # a lone surrogate
            raise invalid(f"JSON Parse error: feature name {name!r}: {error}") from error
        if items:
            _fill_feature(name, feature, items)
    return example


def _fill_feature(name: str, feature: tf.train.Feature, items: list) -> None:
    if all(isinstance(item, str) or is_base64(item) for item in items):
        feature.bytes_list.value.extend(read_array(items, tf.string).tolist())
    elif all(isinstance(item, bool | int) and item in _INT64 for item in items):
        feature.int64_list.value.extend(int(item) for item in items)  # true is 1
    elif all(isinstance(item, float) for item in items):
        feature.float_list.value.extend(read_array(items, tf.float32).tolist())
    else:
        raise invalid(
            f"Unexpected element type in feature: {name}. Its values must all be text, or all int64, or all decimals"
            " that fit float32."
        )
