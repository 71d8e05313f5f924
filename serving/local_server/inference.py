"""The calls of PredictionService and ModelService as functions: request in, response out, RequestError if not."""

from collections.abc import Sequence

import grpc
import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf import meta_graph_pb2
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    inference_pb2,
    input_pb2,
    model_pb2,
    predict_pb2,
    regression_pb2,
)

from serving.local_server.errors import RequestError, from_tensorflow, invalid
from serving.local_server.tensors import make_feeds, make_proto
from serving.local_server.versions import ModelVersions
from serving.session import SessionModel

_DEFAULT = "serving_default"


def predict(versions: ModelVersions, request: predict_pb2.PredictRequest) -> predict_pb2.PredictResponse:
    """Runs a signature on tensors."""
    _require_spec(request)
    with versions.lease(request.model_spec) as (number, model):
        name = request.model_spec.signature_name or _DEFAULT
        if name not in model.signatures:
            raise RequestError(
                grpc.StatusCode.FAILED_PRECONDITION,
                f'Serving signature key "{name}" not found. The model has {sorted(model.signatures)}.',
            )
        signature = model.meta_graph.signature_def[name]
        aliases = list(request.output_filter) or sorted(signature.outputs)
        for alias in aliases:
            if alias not in signature.outputs:
                raise invalid(f"output tensor alias not found in signature: {alias}; it has {set(signature.outputs)}.")
        if len(set(aliases)) < len(aliases):
            raise invalid(f"duplicate output tensor alias in {aliases}")
        feeds = make_feeds(signature, request.inputs)
        outputs = _fetch(model, feeds, [signature.outputs[alias].name for alias in aliases])
    response = predict_pb2.PredictResponse(model_spec=_answer_spec(request.model_spec, number))
    for alias, output in zip(aliases, outputs, strict=True):
        response.outputs[alias].CopyFrom(make_proto(output))
    return response


def classify(
    versions: ModelVersions, request: classification_pb2.ClassificationRequest
) -> classification_pb2.ClassificationResponse:
    """Runs a signature of serialized tf.Examples that gives `classes`, `scores` or both, [B, number of classes]."""
    _require_spec(request)
    with versions.lease(request.model_spec) as (number, model):
        signature = _find_examples_signature(model, request.model_spec, "classification")
        names = [name for name in ("classes", "scores") if name in signature.outputs]
        if not names:
            raise _precondition("Expected classification signature outputs to contain 'classes' or 'scores'", signature)
        outputs = dict(zip(names, _run_examples(model, signature, request.input, names), strict=True))
    for name, output in outputs.items():
        if output.ndim != 2 or output.dtype != (object if name == "classes" else np.float32):
            raise invalid(
                "Expected classes of DT_STRING and scores of DT_FLOAT, [batch_size num_classes] each; got"
                f" {name} of {output.dtype} {list(output.shape)}"
            )
    response = classification_pb2.ClassificationResponse(model_spec=_answer_spec(request.model_spec, number))
    shape = next(iter(outputs.values())).shape
    for row in range(shape[0]):
        classifications = response.result.classifications.add()
        for column in range(shape[1]):
            found = classifications.classes.add()
            if "classes" in outputs:
                found.label = outputs["classes"][row, column].decode("utf-8", "replace")
            if "scores" in outputs:
                found.score = outputs["scores"][row, column]
    return response


def regress(versions: ModelVersions, request: regression_pb2.RegressionRequest) -> regression_pb2.RegressionResponse:
    """Runs a signature of serialized tf.Examples that gives `outputs`, [B] or [B, 1]."""
    _require_spec(request)
    with versions.lease(request.model_spec) as (number, model):
        signature = _find_examples_signature(model, request.model_spec, "regression")
        if list(signature.outputs) != ["outputs"]:
            raise _precondition("Expected one regression output, 'outputs'", signature)
        (values,) = _run_examples(model, signature, request.input, ["outputs"])
    if values.ndim not in (1, 2) or values.size != len(values):
        raise invalid(f"Expected output Tensor shape [batch_size] or [batch_size, 1] but got {list(values.shape)}")
    response = regression_pb2.RegressionResponse(model_spec=_answer_spec(request.model_spec, number))
    for value in values.ravel().tolist():
        response.result.regressions.add(value=value)
    return response


def multi_inference(versions: ModelVersions, request: inference_pb2.MultiInferenceRequest) -> None:
    """Always raises RequestError: the stand-in leaves this call out."""
    raise RequestError(grpc.StatusCode.UNIMPLEMENTED, "This development server has no MultiInference.")


def get_metadata(
    versions: ModelVersions, request: get_model_metadata_pb2.GetModelMetadataRequest
) -> get_model_metadata_pb2.GetModelMetadataResponse:
    """The signatures of a version."""
    _require_spec(request)
    if not request.metadata_field:
        raise invalid("GetModelMetadataRequest must specify at least one metadata_field")
    for field in request.metadata_field:
        if field != "signature_def":
            raise invalid(f"Metadata field {field} is not supported")
    response = get_model_metadata_pb2.GetModelMetadataResponse()
    with versions.lease(request.model_spec) as (number, model):
        signatures = get_model_metadata_pb2.SignatureDefMap()
        for name, definition in model.meta_graph.signature_def.items():
            signatures.signature_def[name].CopyFrom(definition)
    response.model_spec.name = request.model_spec.name
    response.model_spec.version.value = number
    response.metadata["signature_def"].Pack(signatures)
    return response


def get_status(
    versions: ModelVersions, request: get_model_status_pb2.GetModelStatusRequest
) -> get_model_status_pb2.GetModelStatusResponse:
    """The state of one version or of all."""
    _require_spec(request)
    response = get_model_status_pb2.GetModelStatusResponse()
    for number, (state, message) in versions.states(request.model_spec).items():
        status = response.model_version_status.add(version=number, state=state)
        status.status.error_code = tf.errors.UNKNOWN if message else tf.errors.OK
        status.status.error_message = message
    return response


def _require_spec(request) -> None:
    if not request.HasField("model_spec"):
        raise invalid("Missing ModelSpec")


def _answer_spec(spec: model_pb2.ModelSpec, number: int) -> model_pb2.ModelSpec:
    answer = model_pb2.ModelSpec(name=spec.name, signature_name=spec.signature_name or _DEFAULT)
    answer.version.value = number
    return answer


def _find_examples_signature(model: SessionModel, spec: model_pb2.ModelSpec, kind: str) -> meta_graph_pb2.SignatureDef:
    name = spec.signature_name or _DEFAULT
    if name not in model.signatures:
        raise invalid(f"No signature was found with the name: {name}. The model has {sorted(model.signatures)}.")
    signature = model.meta_graph.signature_def[name]
    if len(signature.inputs) != 1:
        raise invalid(f"Expected one input Tensor of serialized tf.Examples; {name} has {len(signature.inputs)}.")
    if "inputs" not in signature.inputs:
        raise _precondition(f"No {kind} inputs, named 'inputs', found in {name}", signature)
    return signature


def _precondition(message: str, signature: meta_graph_pb2.SignatureDef) -> RequestError:
    names = f"inputs {sorted(signature.inputs)}, outputs {sorted(signature.outputs)}"
    return RequestError(grpc.StatusCode.FAILED_PRECONDITION, f"{message}; the signature has {names}.")


def _run_examples(
    model: SessionModel, signature: meta_graph_pb2.SignatureDef, source: input_pb2.Input, outputs: Sequence[str]
) -> list[np.ndarray]:
    context, examples = b"", source.example_list.examples
    if source.WhichOneof("kind") == "example_list_with_context":
        # Two serialized messages, one after the other, parse as both merged.
        context = source.example_list_with_context.context.SerializeToString()
        examples = source.example_list_with_context.examples
    if not examples:
        raise invalid("Input is empty.")
    serialized = np.array([context + example.SerializeToString() for example in examples], object)
    feeds = {signature.inputs["inputs"].name: serialized}
    arrays = _fetch(model, feeds, [signature.outputs[name].name for name in outputs])
    for name, array in zip(outputs, arrays, strict=True):
        if array.ndim == 0 or len(array) != len(serialized):
            raise invalid(f"Expected {name} batch size of {len(serialized)}. Got shape {list(array.shape)}")
    return arrays


def _fetch(model: SessionModel, feeds: dict[str, np.ndarray], tensors: Sequence[str]) -> list[np.ndarray]:
    try:
        return model.fetch(feeds, tensors)
    except (tf.errors.OpError, ValueError, TypeError) as error:
        raise from_tensorflow(error) from error
