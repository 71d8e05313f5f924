"""The signatures of an export, run in a Session as TF Serving runs them: what they take, and what they give."""

import numpy as np
import pytest
import tensorflow as tf

from serving.names import name_input
from serving.session import SessionModel, SignatureError
from tests.serving.conftest import RAW_FEATURE_SPEC, ROWS, serialize

COLUMN_SIGNATURES = ["predict", "serving_default"]
INPUTS = [name_input(name) for name in RAW_FEATURE_SPEC]


@pytest.fixture(scope="module")
def model(exported):
    with SessionModel(exported.directory) as session_model:
        yield session_model


def test_signatures_are_what_the_services_of_tf_serving_ask_for(model):
    definitions = model.meta_graph.signature_def
    found = {
        name: (definitions[name].method_name, sorted(definitions[name].inputs), sorted(definitions[name].outputs))
        for name in model.signatures
    }
    assert found == {
        "serving_default": ("tensorflow/serving/predict", sorted(INPUTS), ["outputs"]),
        "predict": ("tensorflow/serving/predict", sorted(INPUTS), ["outputs"]),
        "classify": ("tensorflow/serving/classify", ["inputs"], ["classes", "scores"]),
        "regress": ("tensorflow/serving/regress", ["inputs"], ["outputs"]),
        "transform_features": ("tensorflow/serving/predict", ["examples"], sorted(INPUTS)),
    }


def test_classify_gives_a_score_for_each_class(exported, model):
    outputs = model.run("classify", {"inputs": _serialize(ROWS)})
    assert (outputs["scores"].dtype, outputs["scores"].shape) == (np.float32, (len(ROWS), 2))
    assert outputs["classes"].tolist() == [[b"0", b"1"]] * len(ROWS)
    expected = exported.expect(ROWS)
    np.testing.assert_allclose(outputs["scores"], np.stack([1 - expected, expected], axis=1), atol=1e-5)


def test_regress_gives_probabilities(exported, model):
    outputs = model.run("regress", {"inputs": _serialize(ROWS)})["outputs"]
    assert (outputs.dtype, outputs.shape) == (np.float32, (len(ROWS), 1))
    np.testing.assert_allclose(outputs[:, 0], exported.expect(ROWS), atol=1e-5)


def test_transform_features_gives_the_ids_that_the_model_is_fed(exported, model):
    ids = model.run("transform_features", {"examples": _serialize(exported.rows)})
    assert set(ids) == set(INPUTS)
    for name, expected in exported.reference.features.items():
        np.testing.assert_array_equal(ids[name], expected)
        assert len(np.unique(expected)) > 2


@pytest.mark.parametrize("signature", COLUMN_SIGNATURES)
def test_absent_columns_are_missing_for_any_number_of_rows(exported, model, signature):
    assert set(model.signatures[signature].defaults) == set(INPUTS)
    assert model.run(signature, {})["outputs"][:, 0] == pytest.approx(exported.expect([{}]), abs=1e-5)
    outputs = model.run(signature, {"age": np.array([39, np.nan, 90], np.float32)})["outputs"]
    np.testing.assert_allclose(outputs[:, 0], exported.expect([{"age": 39}, {}, {"age": 90}]), atol=1e-5)


def test_absent_columns_need_no_feed_in_a_session_of_ones_own(exported, model):
    signature = model.signatures["predict"]
    feeds = {signature.input_tensors["age"]: np.array([39, 90], np.float32)}
    (outputs,) = model.fetch(feeds, [signature.output_tensors["outputs"]])
    np.testing.assert_allclose(outputs[:, 0], exported.expect([{"age": 39}, {"age": 90}]), atol=1e-5)


def test_an_empty_column_is_missing_and_a_single_value_holds_for_all_rows(exported, model):
    inputs = {
        "age": np.array([39, 17], np.float32),
        "work-class": np.array([], object),
        "channel": np.array([b"web"], object),
    }
    expected = exported.expect([{"age": 39, "channel": "web"}, {"age": 17, "channel": "web"}])
    np.testing.assert_allclose(model.run("predict", inputs)["outputs"][:, 0], expected, atol=1e-5)


def test_an_empty_batch_gives_no_rows(model):
    signature = model.signatures["predict"]
    empty = {
        name: np.array([], object if spec.dtype == tf.string else np.float32) for name, spec in signature.inputs.items()
    }
    assert model.run("predict", empty)["outputs"].shape == (0, 1)
    assert model.run("regress", {"inputs": np.array([], object)})["outputs"].shape == (0, 1)
    assert model.run("classify", {"inputs": np.array([], object)})["classes"].shape == (0, 2)


def test_columns_of_different_lengths_are_named(model):
    inputs = {"age": np.ones(3, np.float32), "income": np.ones(2, np.float32), "work-class": np.array([b"x"], object)}
    with pytest.raises(SignatureError, match="equally many rows") as caught:
        model.run("predict", inputs)
    assert "[3] [others:] [income] [2]" in str(caught.value)


def test_the_same_export_twice_gives_the_same_reference_files(exported, tmp_path):
    exported.reference.save(str(tmp_path))
    for file in tmp_path.iterdir():
        with open(f"{exported.directory}/assets.extra/{file.name}", "rb") as stored:
            assert stored.read() == file.read_bytes()


def _serialize(rows: list[dict]) -> np.ndarray:
    return np.array([serialize(row) for row in rows], object)
