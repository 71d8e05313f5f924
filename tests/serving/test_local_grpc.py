"""The local server's gRPC services, asked by the official stubs."""

import grpc
import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    inference_pb2,
    model_management_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
    regression_pb2,
)

from tests.serving.servers import IS_REAL, open_channel, run_server
from tests.serving.small_models import expect_scores, save_small_model

ROWS = [{"age": 3.0, "city": "Berlin", "code": 7}, {"age": -8.5, "city": "Zürich", "code": -3}]


@pytest.fixture(scope="module")
def channel(tmp_path_factory):
    directory = tmp_path_factory.mktemp("models")
    save_small_model(directory / "3")
    with run_server(directory, model_name="small") as server, open_channel(server) as channel:
        yield channel


@pytest.fixture(scope="module")
def prediction(channel):
    return prediction_service_pb2_grpc.PredictionServiceStub(channel)


def test_predict_gives_the_models_numbers_and_the_version_that_gave_them(prediction):
    response = prediction.Predict(_make_request(ROWS, signature_name="predict"))
    np.testing.assert_allclose(list(response.outputs["outputs"].float_val), expect_scores(ROWS), atol=1e-6)
    assert [axis.size for axis in response.outputs["outputs"].tensor_shape.dim] == [2, 1]
    assert response.model_spec.name == "small"
    assert response.model_spec.version.value == 3
    assert response.model_spec.signature_name == "predict"


def test_absent_inputs_are_the_signatures_defaults(prediction):
    request = _make_request([{"code": 7}, {"code": 1}, {"code": 2}], leave_out=["age", "city"])
    response = prediction.Predict(request)
    expected = expect_scores([{"code": 7}, {"code": 1}, {"code": 2}])
    np.testing.assert_allclose(tf.make_ndarray(response.outputs["outputs"])[:, 0], expected, atol=1e-6)


def test_outputs_can_be_chosen(prediction):
    request = predict_pb2.PredictRequest(output_filter=["name_bytes"])
    request.model_spec.name, request.model_spec.signature_name = "small", "many"
    request.inputs["city"].CopyFrom(tf.make_tensor_proto([b"\xff\x00", b"x"]))
    response = prediction.Predict(request)
    assert list(response.outputs) == ["name_bytes"]
    assert list(response.outputs["name_bytes"].string_val) == [b"\xff\x00", b"x"]


def test_an_empty_batch_gives_an_empty_answer(prediction):
    response = prediction.Predict(_make_request([]))
    assert tf.make_ndarray(response.outputs["outputs"]).shape == (0, 1)


def _without_default(request):
    del request.inputs["code"]


def _with_another_input(request):
    del request.inputs["city"]
    request.inputs["town"].CopyFrom(tf.make_tensor_proto([b"x"]))


def _with_one_more_input(request):
    request.inputs["town"].CopyFrom(tf.make_tensor_proto([b"x"]))


def _with_another_dtype(request):
    request.inputs["age"].CopyFrom(tf.make_tensor_proto([1.0], tf.float64))


def _with_another_rank(request):
    request.inputs["age"].CopyFrom(tf.make_tensor_proto([[1.0]]))


def _with_other_lengths(request):
    request.inputs["age"].CopyFrom(tf.make_tensor_proto([1.0, 2.0, 3.0]))


def _with_too_little_content(request):
    request.inputs["age"].ClearField("float_val")
    request.inputs["age"].tensor_content = b"abc"


def _with_a_negative_axis(request):
    request.inputs["age"].tensor_shape.dim[0].size = -7


def _with_an_unknown_output(request):
    request.output_filter.append("result")


def _with_an_output_twice(request):
    request.output_filter.extend(["outputs", "outputs"])


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (_without_default, "code"),
        (_with_another_input, "town"),
        (_with_one_more_input, "town"),
        (_with_another_dtype, "double|float64"),
        (_with_another_rank, "shape"),
        (_with_other_lengths, "shapes"),
        (_with_too_little_content, "tensor parsing error: age"),
        (_with_a_negative_axis, "age"),
        (_with_an_unknown_output, "result"),
        (_with_an_output_twice, "duplicate output tensor alias"),
    ],
)
def test_wrong_predict_requests_are_invalid_arguments(prediction, spoil, message):
    request = _make_request(ROWS[:1] * 2)
    spoil(request)
    with pytest.raises(grpc.RpcError, match=message) as caught:
        prediction.Predict(request)
    assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT


@pytest.mark.skipif(IS_REAL, reason="the real server tries to allocate what a shape claims")
def test_a_shape_of_a_trillion_values_is_refused_before_it_is_made(prediction):
    request = _make_request(ROWS)
    request.inputs["age"].tensor_shape.dim[0].size = 10**12
    with pytest.raises(grpc.RpcError, match="has over") as caught:
        prediction.Predict(request)
    assert caught.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED


@pytest.mark.parametrize(
    ("spec", "code"),
    [
        ({"name": "other"}, grpc.StatusCode.NOT_FOUND),
        ({"name": "small", "version": {"value": 4}}, grpc.StatusCode.NOT_FOUND),
        ({"name": "small", "version_label": "canary"}, grpc.StatusCode.INVALID_ARGUMENT),
        ({"name": "small", "signature_name": "nothing"}, grpc.StatusCode.FAILED_PRECONDITION),
    ],
)
def test_models_versions_labels_and_signatures_that_are_not_there_have_tf_servings_codes(prediction, spec, code):
    request = _make_request(ROWS)
    request.ClearField("model_spec")
    request.MergeFrom(predict_pb2.PredictRequest(model_spec=spec))
    with pytest.raises(grpc.RpcError) as caught:
        prediction.Predict(request)
    assert caught.value.code() == code


def test_a_request_without_a_model_is_an_invalid_argument(prediction):
    with pytest.raises(grpc.RpcError, match="Missing ModelSpec") as caught:
        prediction.Predict(predict_pb2.PredictRequest())
    assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT


def test_classify_and_regress_take_examples(prediction):
    expected = expect_scores(ROWS)
    regression = regression_pb2.RegressionRequest()
    classification = classification_pb2.ClassificationRequest()
    for request, signature in ((regression, "regress"), (classification, "classify")):
        request.model_spec.name, request.model_spec.signature_name = "small", signature
        request.input.example_list.examples.extend(_make_example(row) for row in ROWS)
    values = [x.value for x in prediction.Regress(regression).result.regressions]
    np.testing.assert_allclose(values, expected, atol=1e-6)
    rows = prediction.Classify(classification).result.classifications
    assert [[c.label for c in row.classes] for row in rows] == [["0", "1"]] * 2
    np.testing.assert_allclose([row.classes[1].score for row in rows], expected, atol=1e-6)


def test_a_context_is_part_of_every_example(prediction):
    request = regression_pb2.RegressionRequest()
    request.model_spec.name, request.model_spec.signature_name = "small", "regress"
    request.input.example_list_with_context.context.CopyFrom(_make_example({"city": "Berlin"}))
    request.input.example_list_with_context.examples.extend([_make_example({"code": 1}), _make_example({"code": 2})])
    values = [x.value for x in prediction.Regress(request).result.regressions]
    expected = expect_scores([{"city": "Berlin", "code": 1}, {"city": "Berlin", "code": 2}])
    np.testing.assert_allclose(values, expected, atol=1e-6)


@pytest.mark.parametrize(
    ("method", "signature", "examples", "code", "message"),
    [
        ("Classify", "classify", 0, "INVALID_ARGUMENT", "Input is empty"),
        ("Classify", "predict", 1, "INVALID_ARGUMENT", "Expected one input Tensor"),
        ("Classify", "nothing", 1, "INVALID_ARGUMENT", "nothing"),
        ("Classify", "many", 1, "FAILED_PRECONDITION", "inputs"),
        ("Classify", "regress", 1, "FAILED_PRECONDITION", "classes"),
        ("Regress", "regress", 0, "INVALID_ARGUMENT", "Input is empty"),
    ],
)
def test_wrong_example_requests_have_tf_servings_codes(prediction, method, signature, examples, code, message):
    kind = {"Classify": classification_pb2.ClassificationRequest, "Regress": regression_pb2.RegressionRequest}[method]
    request = kind()
    request.model_spec.name, request.model_spec.signature_name = "small", signature
    request.input.example_list.examples.extend([_make_example(ROWS[0])] * examples)
    with pytest.raises(grpc.RpcError, match=message) as caught:
        getattr(prediction, method)(request)
    assert caught.value.code().name == code


def test_metadata_gives_signatures_and_their_defaults(prediction):
    request = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=["signature_def"])
    request.model_spec.name = "small"
    response = prediction.GetModelMetadata(request)
    signatures = get_model_metadata_pb2.SignatureDefMap()
    assert response.metadata["signature_def"].Unpack(signatures)
    assert response.model_spec.version.value == 3
    assert {"classify", "many", "predict", "regress", "serving_default"} <= set(signatures.signature_def)
    assert set(signatures.signature_def["predict"].defaults) == {"age", "city"}
    request.metadata_field.append("weights")
    with pytest.raises(grpc.RpcError) as caught:
        prediction.GetModelMetadata(request)
    assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT


def test_status_gives_the_state_of_versions(channel):
    models = model_service_pb2_grpc.ModelServiceStub(channel)
    request = get_model_status_pb2.GetModelStatusRequest(model_spec={"name": "small"})
    (status,) = models.GetModelStatus(request).model_version_status
    assert status.version == 3
    assert status.state == get_model_status_pb2.ModelVersionStatus.AVAILABLE
    request.model_spec.version.value = 4
    with pytest.raises(grpc.RpcError) as caught:
        models.GetModelStatus(request)
    assert caught.value.code() == grpc.StatusCode.NOT_FOUND


@pytest.mark.skipif(IS_REAL, reason="the real server has both calls")
def test_calls_that_the_stand_in_leaves_out_are_unimplemented(channel, prediction):
    models = model_service_pb2_grpc.ModelServiceStub(channel)
    for call, request in (
        (prediction.MultiInference, inference_pb2.MultiInferenceRequest()),
        (models.HandleReloadConfigRequest, model_management_pb2.ReloadConfigRequest()),
    ):
        with pytest.raises(grpc.RpcError) as caught:
            call(request)
        assert caught.value.code() == grpc.StatusCode.UNIMPLEMENTED


@pytest.mark.skipif(IS_REAL, reason="the real server is no stand-in")
def test_every_answer_says_that_it_is_from_a_stand_in(prediction):
    _, call = prediction.Predict.with_call(_make_request(ROWS))
    assert "not for production" in dict(call.initial_metadata())["x-development-server"]


def _make_request(rows, leave_out=(), **spec) -> predict_pb2.PredictRequest:
    request = predict_pb2.PredictRequest(model_spec={"name": "small", **spec})
    for name, dtype in (("age", tf.float32), ("city", tf.string), ("code", tf.int64)):
        if name not in leave_out:
            values = [row[name] for row in rows]
            request.inputs[name].CopyFrom(tf.make_tensor_proto(values, dtype, [len(rows)]))
    return request


def _make_example(row) -> tf.train.Example:
    example = tf.train.Example()
    if "age" in row:
        example.features.feature["age"].float_list.value.append(row["age"])
    if "city" in row:
        example.features.feature["city"].bytes_list.value.append(row["city"].encode())
    if "code" in row:
        example.features.feature["code"].int64_list.value.append(row["code"])
    return example
