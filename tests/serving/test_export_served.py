"""An export behind a server: the signatures that TF Serving's own calls use, and columns that are left out."""

import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis import (
    classification_pb2,
    predict_pb2,
    prediction_service_pb2_grpc,
    regression_pb2,
)

from tests.serving.conftest import ROWS, serialize
from tests.serving.servers import open_channel, run_server, send


@pytest.fixture(scope="module")
def server(exported):
    with run_server(exported.directory) as server:
        yield server


@pytest.fixture(scope="module")
def stub(server):
    with open_channel(server) as channel:
        yield prediction_service_pb2_grpc.PredictionServiceStub(channel)


def test_classify_and_regress_give_the_probabilities_of_keras(exported, stub):
    expected = exported.expect([*ROWS, {}])
    answers = {}
    for kind, signature in (
        (classification_pb2.ClassificationRequest, "classify"),
        (regression_pb2.RegressionRequest, "regress"),
    ):
        request = kind(model_spec={"name": "default", "signature_name": signature})
        request.input.example_list.examples.extend(tf.train.Example.FromString(serialize(row)) for row in [*ROWS, {}])
        answers[signature] = getattr(stub, signature.capitalize())(request).result
    np.testing.assert_allclose([x.value for x in answers["regress"].regressions], expected, atol=1e-5)
    rows = answers["classify"].classifications
    assert {tuple(c.label for c in row.classes) for row in rows} == {("0", "1")}
    np.testing.assert_allclose([row.classes[1].score for row in rows], expected, atol=1e-5)


def test_columns_that_are_left_out_are_missing(exported, stub):
    request = predict_pb2.PredictRequest(model_spec={"name": "default"})
    request.inputs["age"].CopyFrom(tf.make_tensor_proto([39.0, 17.0]))
    outputs = tf.make_ndarray(stub.Predict(request).outputs["outputs"])[:, 0]
    np.testing.assert_allclose(outputs, exported.expect([{"age": 39}, {"age": 17}]), atol=1e-5)


def test_examples_over_rest_are_regressed(exported, server):
    examples = [{"age": 39, "channel": "web"}, {"work-class": "private"}]
    status, document = send(server, "/v1/models/default:regress", {"signature_name": "regress", "examples": examples})
    assert status == 200, document
    np.testing.assert_allclose(document["results"], exported.expect(examples), atol=1e-5)
