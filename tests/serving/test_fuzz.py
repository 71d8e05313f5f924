"""Whatever is sent to a server, it predicts or refuses it cleanly, and its next answer is the same as before."""

import json
import math

import grpc
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc, regression_pb2

from tests.serving.servers import open_channel, run_server, send
from tests.serving.small_models import expect_scores, save_small_model

KNOWN = [{"age": 3.0, "city": "Berlin", "code": 7}, {"age": -8.5, "city": "Zürich", "code": -3}]
INPUTS = {"age": tf.float32, "city": tf.string, "code": tf.int64}
PREDICT = "/v1/models/default:predict"
FUZZ = settings(
    max_examples=60, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)

TEXTS = st.one_of(
    st.text(max_size=20),
    st.builds(str.__mul__, st.sampled_from(["x", "ü", "\x00", "𝄞", '"', "\\"]), st.sampled_from([1, 1000, 100_000])),
)
NUMBERS = st.one_of(
    st.floats(),
    st.integers(),
    st.sampled_from([math.nan, math.inf, -math.inf, 2**63 - 1, -(2**63), 2**63, -(2**64), 10**400, 1e308, -0.0]),
)
VALUES = st.one_of(st.none(), st.booleans(), NUMBERS, TEXTS, st.just({"b64": "AP8="}), st.just({"b64": "?"}))
CELLS = st.one_of(VALUES, st.lists(VALUES, max_size=3), st.dictionaries(st.text(max_size=3), VALUES, max_size=2))
NAMES = st.one_of(st.sampled_from([*INPUTS, "town", "", "Age"]), st.text(max_size=8))
GOOD_ROWS = st.fixed_dictionaries(
    {
        "age": st.floats(width=32),
        "city": TEXTS,
        "code": st.integers(-(2**63), 2**63 - 1),
    }
)


@st.composite
def bodies(draw):
    """A method of the REST API and a body: a right one with up to two things spoiled, or any JSON."""
    method = draw(st.sampled_from(["predict", "predict", "classify", "regress"]))
    rows = draw(st.lists(GOOD_ROWS, min_size=1, max_size=3))
    for _ in range(draw(st.integers(0, 2))):
        index, name = draw(st.integers(0, len(rows) - 1)), draw(NAMES)
        if draw(st.booleans()):
            rows[index][name] = draw(CELLS)
        else:
            rows[index].pop(name, None)
    if method != "predict":
        body = {"examples": rows, "signature_name": method} | draw(st.sampled_from([{}, {"context": rows[0]}]))
    elif draw(st.booleans()):
        body = {"instances": rows}
    else:
        body = {"inputs": {name: [row[name] for row in rows if name in row] for name in INPUTS}}
    if draw(st.integers(0, 4)) == 0:
        body[draw(st.sampled_from(["signature_name", "instances", "inputs", "examples", "context"]))] = draw(CELLS)
    return method, draw(st.sampled_from([body] * 9 + [draw(CELLS)]))


ARRAYS = {
    tf.float32: st.floats(width=32),
    tf.float64: st.floats(),
    tf.string: st.one_of(TEXTS.map(str.encode), st.binary(max_size=20)),
    tf.int64: st.integers(-(2**63), 2**63 - 1),
    tf.int32: st.integers(-(2**31), 2**31 - 1),
    tf.bool: st.booleans(),
}


@st.composite
def predict_requests(draw):
    """A right request with up to two things spoiled."""
    num_rows = draw(st.integers(0, 4))
    request = predict_pb2.PredictRequest(model_spec={"name": "default"})
    for name, dtype in INPUTS.items():
        values = draw(st.lists(ARRAYS[dtype], min_size=num_rows, max_size=num_rows))
        request.inputs[name].CopyFrom(tf.make_tensor_proto(values, dtype, [num_rows]))
    for spoil in draw(st.lists(st.sampled_from(SPOILERS), max_size=2)):
        spoil(draw, request, draw(st.sampled_from(list(INPUTS))))
    return request


def _leave_out(draw, request, name):
    if name in request.inputs:  # else it is left out already
        del request.inputs[name]


def _take_any_tensor(draw, request, name):
    dtype = draw(st.sampled_from(list(ARRAYS)))
    values = draw(st.lists(ARRAYS[dtype], max_size=4))
    shape = draw(st.sampled_from([[len(values)], [len(values), 1], [1, len(values)]]))
    name = draw(st.sampled_from([name, name, "town", "inputs", "\x00"]))
    request.inputs[name].CopyFrom(tf.make_tensor_proto(values, dtype, shape))


def _claim_another_size(draw, request, name):
    axes = request.inputs[name].tensor_shape.dim
    if draw(st.booleans()):
        del axes[:]
    axes.add(size=draw(st.sampled_from([-1, 0, 1, 2, 2**40, 2**62])))


def _claim_another_dtype(draw, request, name):
    request.inputs[name].dtype = draw(st.integers(-1, 130))


def _hold_other_bytes(draw, request, name):
    request.inputs[name].tensor_content = draw(st.binary(max_size=40))


def _hold_more_values(draw, request, name):
    request.inputs[name].float_val.extend(draw(st.lists(st.floats(width=32), max_size=3)))
    request.inputs[name].string_val.extend(draw(st.lists(st.binary(max_size=3), max_size=3)))


def _ask_for_other_things(draw, request, name):
    request.model_spec.signature_name = draw(st.sampled_from(["", "predict", "many", "classify", "x"]))
    request.output_filter.extend(draw(st.lists(st.sampled_from(["outputs", "scores", "\x00"]), max_size=2)))


SPOILERS = [
    _leave_out,
    _take_any_tensor,
    _claim_another_size,
    _claim_another_dtype,
    _hold_other_bytes,
    _hold_more_values,
    _ask_for_other_things,
]


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    directory = tmp_path_factory.mktemp("models")
    save_small_model(directory / "1")
    with run_server(directory) as server:
        yield server


@pytest.fixture(scope="module")
def stub(server):
    with open_channel(server) as channel:
        yield prediction_service_pb2_grpc.PredictionServiceStub(channel)


@FUZZ
@given(request=predict_requests())
def test_any_tensors_over_grpc_are_predicted_or_refused(stub, request):
    # A signature that is not there and a shape that is out of all bounds have codes of their own.
    codes = [grpc.StatusCode.OK, grpc.StatusCode.INVALID_ARGUMENT]
    codes += [grpc.StatusCode.FAILED_PRECONDITION] * (request.model_spec.signature_name == "x")
    codes += [grpc.StatusCode.RESOURCE_EXHAUSTED] * _is_huge(request)
    assert _find_code(stub, request) in codes
    _check_next_answer(stub)


@FUZZ
@given(rows=st.lists(GOOD_ROWS, min_size=1, max_size=3))
def test_any_values_of_the_right_type_are_predicted_over_grpc(stub, rows):
    response = stub.Predict(_make_request(rows))
    np.testing.assert_allclose(list(response.outputs["outputs"].float_val), expect_scores(rows), atol=1e-5)


@FUZZ
@given(examples=st.lists(st.binary(max_size=30), max_size=3))
def test_any_bytes_as_examples_are_regressed_or_refused(stub, examples):
    # By Predict: Regress takes messages, which are parsed before the server sees them.
    request = predict_pb2.PredictRequest(model_spec={"name": "default", "signature_name": "regress"})
    request.inputs["inputs"].CopyFrom(tf.make_tensor_proto(examples, tf.string, [len(examples)]))
    assert _find_code(stub, request) in (grpc.StatusCode.OK, grpc.StatusCode.INVALID_ARGUMENT)
    _check_next_answer(stub)


@FUZZ
@given(sent=bodies())
def test_any_json_over_rest_is_predicted_or_refused(server, stub, sent):
    method, body = sent
    status, document = send(server, f"/v1/models/default:{method}", json.dumps(body).encode())
    assert status in (200, 400), document
    assert (status == 400) == ("error" in document)
    _check_next_answer(stub)


@FUZZ
@given(body=st.binary(max_size=60))
def test_any_bytes_over_rest_are_refused(server, stub, body):
    status, document = send(server, PREDICT, body)
    assert status == 400
    assert list(document) == ["error"]
    _check_next_answer(stub)


@FUZZ
@given(rows=st.lists(GOOD_ROWS, min_size=1, max_size=3))
def test_any_values_of_the_right_type_are_predicted_over_rest(server, rows):
    status, document = send(server, PREDICT, {"instances": rows})
    assert status == 200, document
    np.testing.assert_allclose([row[0] for row in document["predictions"]], expect_scores(rows), atol=1e-5)


def test_ten_thousand_rows_are_one_request(server, stub):
    rows = [{"age": float(index), "city": "ü" * (index % 9), "code": index - 5000} for index in range(10_000)]
    response = stub.Predict(_make_request(rows))
    np.testing.assert_allclose(list(response.outputs["outputs"].float_val), expect_scores(rows), atol=1e-5)
    status, document = send(server, PREDICT, {"instances": rows})
    assert status == 200
    np.testing.assert_allclose([row[0] for row in document["predictions"]], expect_scores(rows), atol=1e-5)
    _check_next_answer(stub)


def test_an_empty_batch_is_answered_or_refused(server, stub):
    assert tf.make_ndarray(stub.Predict(_make_request([])).outputs["outputs"]).shape == (0, 1)
    assert send(server, PREDICT, {"inputs": {"age": [], "city": [], "code": []}}) == (200, {"outputs": []})
    assert send(server, PREDICT, {"instances": []})[0] == 400
    with pytest.raises(grpc.RpcError, match="Input is empty"):
        stub.Regress(regression_pb2.RegressionRequest(model_spec={"name": "default", "signature_name": "regress"}))


def test_a_very_long_text_is_answered(server, stub):
    rows = [{"age": 0.0, "city": "x" * 10_000_000, "code": 0}]
    assert send(server, PREDICT, {"instances": rows})[0] == 200
    assert stub.Predict(_make_request(rows)).outputs["outputs"].float_val
    _check_next_answer(stub)


def _check_next_answer(stub) -> None:
    values = list(stub.Predict(_make_request(KNOWN)).outputs["outputs"].float_val)
    np.testing.assert_allclose(values, expect_scores(KNOWN), atol=1e-6)


def _find_code(stub, request) -> grpc.StatusCode:
    return stub.Predict.future(request).code()


def _is_huge(request) -> bool:
    return any(axis.size >= 2**40 for x in request.inputs.values() for axis in x.tensor_shape.dim)


def _make_request(rows) -> predict_pb2.PredictRequest:
    request = predict_pb2.PredictRequest(model_spec={"name": "default"})
    for name, dtype in INPUTS.items():
        request.inputs[name].CopyFrom(tf.make_tensor_proto([row[name] for row in rows], dtype, [len(rows)]))
    return request
