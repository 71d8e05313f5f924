"""Warm-up records: made of real rows, written, replayed as TF Serving would."""

import os
import shutil

import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis import prediction_log_pb2

from serving.warmup import WARMUP_FILE, WarmupError, read_warmup, replay_warmup, write_warmup
from serving.warmup_requests import make_warmup_logs, rows_of_examples
from tests.serving.conftest import ROWS, serialize


@pytest.fixture(scope="module")
def logs(exported):
    return make_warmup_logs(exported.directory, ROWS, num_records=12, batch_sizes=(1, 3))


@pytest.fixture
def model(exported, tmp_path):
    return shutil.copytree(exported.directory, tmp_path / "model")


def test_every_signature_is_asked_with_every_batch_size(exported, logs):
    asked = {}
    for log in logs:
        kind = log.WhichOneof("log_type")
        request = getattr(log, kind).request
        if kind == "predict_log":
            (size,) = {tensor.tensor_shape.dim[0].size for tensor in request.inputs.values()}
        else:
            size = len(request.input.example_list.examples)
        asked.setdefault(request.model_spec.signature_name, set()).add(size)
    saved = tf.saved_model.load(exported.directory)
    assert asked == {name: {1, 3} for name in saved.signatures}
    assert len(logs) == 12


def test_records_give_the_models_numbers_for_the_rows_they_were_made_of(exported):
    num_signatures = len(tf.saved_model.load(exported.directory).signatures)
    logs = make_warmup_logs(exported.directory, ROWS, num_records=num_signatures, batch_sizes=(len(ROWS),))
    expected = exported.expect(ROWS)
    scored = [output["outputs"][:, 0] for output in replay_warmup(exported.directory, logs) if "outputs" in output]
    assert len(scored) >= 2
    for outputs in scored:
        np.testing.assert_allclose(outputs, expected, atol=1e-5)


def test_records_survive_the_file_and_are_replayed_from_it(model, exported, logs):
    path = write_warmup(model, logs)
    assert path == os.path.join(model, "assets.extra", "tf_serving_warmup_requests") == os.path.join(model, WARMUP_FILE)
    assert read_warmup(model) == logs
    assert len(replay_warmup(model)) == len(logs)
    before = set(os.listdir(os.path.join(exported.directory, "assets.extra")))
    assert set(os.listdir(model / "assets.extra")) == {*before, "tf_serving_warmup_requests"}


def test_the_same_rows_make_the_same_bytes(model, exported, logs):
    with open(write_warmup(model, logs), "rb") as file:
        first = file.read()
    again = make_warmup_logs(exported.directory, ROWS, num_records=12, batch_sizes=(1, 3))
    with open(write_warmup(model, again), "rb") as file:
        assert file.read() == first


def test_rows_of_tf_examples_are_rows(exported):
    rows = list(rows_of_examples(serialize(row) for row in ROWS))
    assert make_warmup_logs(exported.directory, rows, num_records=6) == make_warmup_logs(
        exported.directory, ROWS, num_records=6
    )


def test_columns_that_the_model_does_not_take_are_left_out_and_absent_ones_are_missing(exported):
    rows = [{"Region code": "7", "label": 1}]
    outputs = replay_warmup(exported.directory, make_warmup_logs(exported.directory, rows, num_records=3))
    expected = exported.expect([{"Region code": 7}])
    scored = [output["outputs"][:, 0] for output in outputs if "outputs" in output]
    assert scored
    for values in scored:
        np.testing.assert_allclose(values, expected, atol=1e-5)


@pytest.mark.parametrize(
    ("rows", "options", "message"),
    [
        ([], {}, "received none"),
        (ROWS, {"num_records": 0}, "from 1 to 1000.*received 0"),
        (ROWS, {"num_records": 1001}, "from 1 to 1000.*received 1001"),
        ([{"agee": 1}], {}, "No row has a column of the model"),
    ],
)
def test_rows_and_numbers_that_make_no_records_are_rejected(exported, rows, options, message):
    with pytest.raises(ValueError, match=message):
        make_warmup_logs(exported.directory, rows, **options)


def test_a_value_that_does_not_suit_its_column_names_the_column(exported):
    with pytest.raises(WarmupError, match="Column 'age': 'old' is no"):
        make_warmup_logs(exported.directory, [{"age": "old"}])


def test_more_records_than_tf_serving_reads_are_not_written(model, logs):
    with pytest.raises(ValueError, match=r"at most 1000 warm-up records; received 1001"):
        write_warmup(model, [logs[0]] * 1001)
    assert read_warmup(model) == []


def test_a_model_without_records_cannot_be_replayed(model):
    with pytest.raises(WarmupError, match="has 0 warm-up records"):
        replay_warmup(model)


def test_a_file_of_something_else_is_named(model, logs):
    path = write_warmup(model, logs)
    with tf.io.TFRecordWriter(path) as writer:
        writer.write(logs[0].SerializeToString())
        writer.write(b"\xff\xff no proto")
    with pytest.raises(WarmupError, match="record 1 is no PredictionLog"):
        read_warmup(model)
    with open(path, "wb") as file:
        file.write(b"no TFRecord of whatever kind")
    with pytest.raises(WarmupError, match="record 0 is no PredictionLog"):
        read_warmup(model)


@pytest.mark.parametrize(
    ("break_log", "message"),
    [
        (lambda r: setattr(r.model_spec, "signature_name", "rank"), "there is no signature 'rank'"),
        (lambda r: r.inputs["agee"].CopyFrom(tf.make_tensor_proto([1.0])), r"no input \['agee'\]"),
        (lambda r: r.inputs["age"].CopyFrom(tf.make_tensor_proto([[1.0]])), "record 1 fails: .*"),
    ],
)
def test_a_record_that_fails_is_named_by_its_index(exported, logs, break_log, message):
    broken = prediction_log_pb2.PredictionLog()
    broken.CopyFrom(next(log for log in logs if log.predict_log.request.model_spec.signature_name == "predict"))
    break_log(broken.predict_log.request)
    with pytest.raises(WarmupError, match=f"warm-up record 1 fails.*{message}|{message}"):
        replay_warmup(exported.directory, [logs[0], broken])


@pytest.mark.parametrize(("outputs", "kind"), [({"classes", "scores"}, "classify_log"), ({"outputs"}, "regress_log")])
def test_signatures_of_the_classify_and_regress_apis_get_their_requests(tmp_path, outputs, kind):
    features = {"x": tf.io.FixedLenFeature([1], tf.float32)}

    def score(inputs):
        x = tf.io.parse_example(inputs, features)["x"]
        results = {"classes": tf.fill(tf.shape(x), "1"), "scores": tf.sigmoid(x), "outputs": tf.sigmoid(x)}
        return {name: results[name] for name in outputs}

    module = tf.Module()
    module.score = tf.function(
        score, input_signature=[tf.TensorSpec([None], tf.string, name="inputs")], autograph=False
    )
    tf.saved_model.save(module, str(tmp_path), signatures={"ask": module.score})
    logs = make_warmup_logs(tmp_path, [{"x": 0.0}, {"x": "2"}], num_records=1, batch_sizes=(2,))
    assert [log.WhichOneof("log_type") for log in logs] == [kind]
    (output,) = replay_warmup(tmp_path, logs)
    values = output["scores" if "scores" in outputs else "outputs"]
    np.testing.assert_allclose(values[:, 0], [0.5, 1 / (1 + np.exp(-2.0))], rtol=1e-5)
