"""check_saved_model and predict_rows: what they find, and what they say when something is wrong."""

import dataclasses
import pathlib
import re
import shutil
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2

from serving.check import check_saved_model, predict_rows
from serving.check_tools import Job, start_tools
from serving.cli import main
from serving.samples import read_example_features
from serving.session import SavedModelError, SavedModelNotFoundError, SessionModel, SignatureError, find_saved_model
from serving.tool_process import run_saved_model_cli
from tests.serving.conftest import RAW_FEATURE_SPEC

PROGRAMS = {"Session", "tf.saved_model.load", "saved_model_cli"}


@pytest.fixture(scope="module")
def checked(exported):
    # RunInference, which takes 9 s to import, is run by tests/pipeline/test_run.py.
    return check_saved_model(exported.directory, tools=["saved_model_cli"])


def test_every_signature_of_an_export_passes(checked):
    results = {result.signature: result for result in checked}
    assert set(results) == {"classify", "predict", "regress", "serving_default", "transform_features"}
    assert [problem for result in results.values() for problem in result.problems] == []
    assert all(set(result.differences) == PROGRAMS for result in results.values())
    assert all(0 <= x <= 1e-5 for result in results.values() for x in result.differences.values())
    assert all("1000 reference rows" in result.batches for result in results.values())
    assert {"no column", "3 x only Region_code", "3 x Region_code, the others empty"} < set(results["predict"].batches)
    assert results["predict"].inputs["age"] == "float32 [?]"
    assert results["predict"].inputs["Region_code"] == "string [?]"
    assert {"1 x unknown text", "3 x all missing", "3 x some values"} < set(results["predict"].batches)
    assert 0 < results["predict"].minimum < results["predict"].maximum < 1


def test_the_command_prints_a_line_for_each_signature(exported, checked, monkeypatch, capsys):
    monkeypatch.setattr("serving.check.check_saved_model", lambda path: checked)
    assert main(["check", str(pathlib.Path(exported.directory).parent)]) == 0
    printed = capsys.readouterr()
    signatures = ["classify", "predict", "regress", "serving_default", "transform_features"]
    assert [line.split()[0] for line in printed.out.splitlines()] == ["signature", *signatures]
    assert "5 columns: 2 float32 [?], 3 string [?]" in printed.out
    for text in ("ok: ", "off the Keras model", "run by Session, tf.saved_model.load, saved_model_cli"):
        assert printed.out.count(text) == 5
    assert printed.err == f"using {exported.directory}\n"


def test_other_numbers_than_the_reference_are_found_by_each_program(exported, tmp_path):
    directory = shutil.copytree(exported.directory, tmp_path / "model")
    wrong = exported.reference.outputs.copy()
    wrong[17] += 2e-5
    dataclasses.replace(exported.reference, outputs=wrong).save(directory / "assets.extra")
    results = {result.signature: result for result in check_saved_model(directory, tools=[])}
    assert results["transform_features"].is_ok
    for name in ("predict", "serving_default", "classify", "regress"):
        assert results[name].problems == tuple(
            f"1000 reference rows: {program} differs from the Keras model by 2e-05; at most 1e-05 is allowed."
            for program in ("Session", "tf.saved_model.load")
        )


def test_other_ids_than_the_reference_are_found(exported, tmp_path):
    directory = shutil.copytree(exported.directory, tmp_path / "model")
    ids = exported.reference.features["age"].copy()
    ids[-1] += 1
    features = exported.reference.features | {"age": ids}
    dataclasses.replace(exported.reference, features=features).save(directory / "assets.extra")
    faulty = [result.signature for result in check_saved_model(directory, tools=[]) if not result.is_ok]
    assert faulty == ["transform_features"]


def test_defaults_that_are_no_missing_values_are_found(exported, tmp_path):
    directory = shutil.copytree(exported.directory, tmp_path / "model")
    saved_model = saved_model_pb2.SavedModel.FromString((directory / "saved_model.pb").read_bytes())
    saved_model.meta_graphs[0].signature_def["predict"].defaults["age"].float_val[:] = [39.0]
    (directory / "saved_model.pb").write_bytes(saved_model.SerializeToString())
    results = {result.signature: result for result in check_saved_model(directory, tools=[])}
    assert any(
        problem.startswith("3 x only Region_code: differs from the same rows with missing values in all columns by")
        for problem in results["predict"].problems
    )


def test_a_reference_of_two_lengths_is_rejected(exported, tmp_path):
    directory = shutil.copytree(exported.directory, tmp_path / "model")
    with tf.io.TFRecordWriter(str(directory / "assets.extra" / "reference_examples.tfrecord.gz"), "GZIP") as writer:
        writer.write(b"")
    with pytest.raises(ValueError, match=r"reference_examples.tfrecord.gz has 1 rows, reference_outputs.npy.gz 1000"):
        check_saved_model(directory)


def test_the_features_of_examples_are_read_from_the_graph(exported):
    with SessionModel(exported.directory) as model:
        features = read_example_features(model)
    assert features == {name: (spec.dtype, False) for name, spec in RAW_FEATURE_SPEC.items()}


def test_required_features_of_examples_are_filled(tmp_path):
    def serve(examples):
        parsed = tf.io.parse_example(examples, {"x": tf.io.FixedLenFeature([1], tf.float32)})
        return {"outputs": tf.sigmoid(parsed["x"])}

    (result,) = check_saved_model(_save(tmp_path, serve, tf.TensorSpec([None], tf.string, name="examples")), tools=[])
    assert result.is_ok
    assert result.batches == ("1 x filled example", "3 x filled example")


@pytest.mark.parametrize(
    ("outputs_of", "message"),
    [
        (lambda x: x[:, None] * 3, "are no probabilities"),
        (lambda x: tf.math.log(-x[:, None] - 1), "not finite"),
        (lambda x: tf.zeros([2, 1]), r"shape \[2, 1\]; expected \[1, 1\]"),
        (lambda x: tf.debugging.check_numerics(x[:, None] / 0, "boom"), "fails in a Session: boom"),
    ],
)
def test_wrong_outputs_are_problems(tmp_path, outputs_of, message):
    directory = _save(tmp_path, lambda x: {"outputs": outputs_of(x)}, tf.TensorSpec([None], tf.float32, name="x"))
    (result,) = check_saved_model(directory, tools=[])
    assert not result.is_ok
    assert re.search(message, "\n".join(result.problems))


def test_a_model_that_only_python_can_run_is_named_with_the_cure(tmp_path, monkeypatch):
    inputs = keras.Input([1])
    model = keras.Model(inputs, keras.layers.Dense(1, activation="sigmoid")(inputs))
    serve = tf.function(
        lambda x: {"outputs": model(x[:, None])}, input_signature=[tf.TensorSpec([None], tf.float32, name="x")]
    )
    # The very thing export.py avoids: it loads and runs in Python.
    tf.saved_model.save(model, str(tmp_path), signatures={"predict": serve})
    (result,) = check_saved_model(tmp_path, tools=[])
    assert "Signature 'predict' fails in a Session" in result.problems[0]
    assert "Could not find variable" in result.problems[0]
    assert "ExportArchive" in result.problems[0]

    np.save(tmp_path / "x.npy", np.ones(3, np.float32))
    job = {"signature": "predict", "inputs": {"x": str(tmp_path / "x.npy")}, "outputs": str(tmp_path)}
    monkeypatch.setattr(sys, "argv", [])  # which it overwrites
    run_saved_model_cli(str(tmp_path), [job])
    assert "Could not find variable" in (tmp_path / "error.txt").read_text()


def test_the_last_words_of_a_program_that_ends_early_are_told(tmp_path):
    job = Job("predict", "1 x all missing", {}, is_examples=True)
    with start_tools(str(tmp_path), [job], ["no_such_tool"]) as running:
        (answer,) = running["no_such_tool"].result()
    assert answer.error == "exit status 1: KeyError: 'no_such_tool'"


def test_signatures_that_disagree_are_found(tmp_path):
    spec = tf.TensorSpec([None], tf.string, name="x")
    module = tf.Module()
    module.half = tf.function(lambda x: {"outputs": tf.fill([tf.size(x), 1], 0.5)}, input_signature=[spec])
    module.third = tf.function(lambda x: {"outputs": tf.fill([tf.size(x), 1], 0.3)}, input_signature=[spec])
    signatures = {"serving_default": module.half, "predict": module.third}
    tf.saved_model.save(module, str(tmp_path), signatures=signatures)
    predict, serving_default = check_saved_model(tmp_path, tools=[])
    assert serving_default.is_ok
    assert "1 x all missing: differs from serving_default by 0.2; at most 1e-06 is allowed." in predict.problems


def test_the_newest_version_is_used(exported, tmp_path):
    for version in ("9", "10"):
        shutil.copytree(exported.directory, tmp_path / version)
    (tmp_path / "11").mkdir()
    assert find_saved_model(tmp_path) == str(tmp_path / "10")


def test_paths_without_a_model_say_what_is_there(exported, tmp_path):
    with pytest.raises(SavedModelNotFoundError, match="No such directory: /nowhere"):
        check_saved_model("/nowhere")
    with pytest.raises(SavedModelNotFoundError, match="It holds nothing"):
        check_saved_model(tmp_path)
    shutil.copytree(exported.directory, tmp_path / "Format-Serving")
    with pytest.raises(SavedModelNotFoundError, match=r"Did you mean .*/Format-Serving"):
        predict_rows(tmp_path, [{}])


def test_a_broken_file_is_no_stack_of_tensorflow_errors(tmp_path):
    (tmp_path / "saved_model.pb").write_bytes(b"no protocol buffer")
    with pytest.raises(SavedModelError, match="cannot be loaded"):
        check_saved_model(tmp_path)


def test_signatures_are_named_when_one_is_not_there(exported):
    with pytest.raises(
        SignatureError,
        match=r"no signature 'examples'; it has \['classify', 'predict', 'regress', 'serving_default', 'trans",
    ):
        predict_rows(exported.directory, [{}], "examples")
    with pytest.raises(SignatureError, match=r"serialized tf\.Examples"):
        predict_rows(exported.directory, [{}], "regress")


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"agee": 3}, "Row 0: unknown column 'agee'; the nearest known: age"),
        ({"Region cod": 3}, "Row 0: unknown column 'Region cod'; the nearest known: Region_code"),
        ({"age": "old"}, "column 'age': expected a number or null; received 'old'"),
        ({"work-class": True}, "column 'work-class': expected text, a number or null; received True"),
        ({"age": [1]}, r"column 'age': expected a number or null; received \[1\]"),
    ],
)
def test_wrong_rows_are_rejected(exported, row, message):
    with pytest.raises(ValueError, match=message):
        predict_rows(exported.directory, [row])


def test_no_rows_give_no_predictions(exported):
    assert predict_rows(exported.directory, []) == []


def _save(directory, serve, spec) -> str:
    module = tf.Module()
    module.serve = tf.function(serve, input_signature=[spec], autograph=False)
    tf.saved_model.save(module, str(directory), signatures={"score": module.serve})
    return str(directory)
