"""TensorFlow Serving's REST API as a function: path and body in, JSON out, RequestError if not."""

import re
import urllib.parse
from typing import Any

from google.protobuf import json_format
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_pb2,
    predict_pb2,
    regression_pb2,
)

from serving.local_server import inference
from serving.local_server.errors import invalid
from serving.local_server.json_arrays import shorten
from serving.local_server.json_requests import parse_body, read_examples, read_inputs, write_outputs
from serving.local_server.versions import ModelVersions

_MODEL = r"(?i:/v1/models)/(?P<name>[^/:]+)(?:/versions/(?P<version>\d+)|/labels/(?P<label>[^/:]+))?"
_POST = re.compile(_MODEL + r":(?P<method>classify|regress|predict)")
_GET = re.compile(_MODEL + r"(?P<metadata>/metadata)?")


def answer(versions: ModelVersions, verb: str, path: str, body: bytes) -> dict[str, Any]:
    """The JSON answer to one request.

    Raises:
        RequestError: with the code that TF Serving gives.
    """
    found = (_POST if verb == "POST" else _GET).fullmatch(path)
    if not found:
        raise invalid(f"Malformed request: {verb} {path}")
    spec = _read_spec(found["name"], found["version"], found["label"])
    if verb == "GET":
        return _describe_metadata(versions, spec) if found["metadata"] else _describe_status(versions, spec)
    document = parse_body(body)
    spec.signature_name = document.get("signature_name", "")
    return {"predict": _predict, "classify": _classify, "regress": _regress}[found["method"]](versions, spec, document)


def _read_spec(name: str, version: str | None, label: str | None) -> model_pb2.ModelSpec:
    spec = model_pb2.ModelSpec(name=urllib.parse.unquote(name))
    if version:
        if int(version[:20]) >= 2**63:
            raise invalid(f"Failed to convert version: {version[:40]} to numeric.")
        spec.version.value = int(version)
    elif label:
        spec.version_label = urllib.parse.unquote(label)
    return spec


def _predict(versions: ModelVersions, spec: model_pb2.ModelSpec, document: dict) -> dict[str, Any]:
    name = spec.signature_name or "serving_default"
    with versions.lease(spec) as (number, model):
        if name not in model.signatures:
            raise invalid(
                f'Serving signature name: "{name}" not found in signature def. The model has {sorted(model.signatures)}'
            )
        inputs, is_row = read_inputs(document, model.meta_graph.signature_def[name].inputs)
        spec.version.value = number  # the newest may change before the request runs
        response = inference.predict(versions, predict_pb2.PredictRequest(model_spec=spec, inputs=inputs))
    return write_outputs(response.outputs, is_row)


def _classify(versions: ModelVersions, spec: model_pb2.ModelSpec, document: dict) -> dict[str, Any]:
    request = classification_pb2.ClassificationRequest(model_spec=spec)
    read_examples(document, request.input)
    result = inference.classify(versions, request).result
    return {"results": [[[c.label, shorten(c.score)] for c in row.classes] for row in result.classifications]}


def _regress(versions: ModelVersions, spec: model_pb2.ModelSpec, document: dict) -> dict[str, Any]:
    request = regression_pb2.RegressionRequest(model_spec=spec)
    read_examples(document, request.input)
    return {"results": [shorten(row.value) for row in inference.regress(versions, request).result.regressions]}


def _describe_status(versions: ModelVersions, spec: model_pb2.ModelSpec) -> dict[str, Any]:
    response = inference.get_status(versions, get_model_status_pb2.GetModelStatusRequest(model_spec=spec))
    return _to_dict(response)


def _describe_metadata(versions: ModelVersions, spec: model_pb2.ModelSpec) -> dict[str, Any]:
    request = get_model_metadata_pb2.GetModelMetadataRequest(model_spec=spec, metadata_field=["signature_def"])
    response = inference.get_metadata(versions, request)
    signatures = get_model_metadata_pb2.SignatureDefMap()
    response.metadata["signature_def"].Unpack(signatures)
    return {"model_spec": _to_dict(response.model_spec), "metadata": {"signature_def": _to_dict(signatures)}}


def _to_dict(message) -> dict[str, Any]:
    return json_format.MessageToDict(
        message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
    )
