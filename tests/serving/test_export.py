"""export_saved_model: what the SavedModel computes and how it is written."""

import os
import tempfile

import keras
import numpy as np
import pytest
import tensorflow as tf

from serving.check import predict_rows
from serving.export import export_saved_model
from serving.export_columns import UNKNOWN_INTEGER
from tests.serving.conftest import LARGEST_INTEGER, NUMERIC_COLUMNS, RAW_FEATURE_SPEC, ROWS, build_model

# What is sent, and the row that it means.
MEANINGS = [
    (ROWS[0], ROWS[0]),
    ({}, {}),
    ({"work-class": ""}, {}),
    ({"Region code": ""}, {}),
    ({"age": float("nan"), "income": None}, {}),
    ({"age": 38.6}, {"age": 39}),
    ({"age": float("inf")}, {}),
    ({"age": 1e30}, {"age": 100}),
    ({"Region code": "7"}, {"Region code": 7}),
    ({"Region code": " +007 "}, {"Region code": 7}),
    ({"Region code": 7.0}, {"Region code": 7}),
    ({"Region code": "-5"}, {"Region code": -5}),
    ({"Region code": str(LARGEST_INTEGER)}, {"Region code": LARGEST_INTEGER}),
    ({"Region code": str(LARGEST_INTEGER + 1)}, {"Region code": UNKNOWN_INTEGER}),
    ({"Region code": "9" * 40}, {"Region code": UNKNOWN_INTEGER}),
    ({"Region code": "seven"}, {"Region code": UNKNOWN_INTEGER}),
    ({"Region code": "7.5"}, {"Region code": UNKNOWN_INTEGER}),
    ({"work-class": "never seen"}, {"work-class": "never seen"}),
]


class CountValues(tf.Module):
    """A stand-in for a Transform layer: a row's id is the number of its values, 0 or 1."""

    def __call__(self, raw):
        return {name: self._count(x) for name, x in raw.items()}

    def _count(self, x):
        if not isinstance(x, tf.SparseTensor):
            return tf.ones(tf.shape(x), tf.int64)
        return tf.sparse.to_dense(tf.SparseTensor(x.indices, tf.ones(tf.shape(x.values), tf.int64), x.dense_shape))


@pytest.fixture(scope="module")
def predicted(exported):
    """Probabilities of what MEANINGS sends, and of what it means by Keras."""
    sent, means = zip(*MEANINGS, strict=True)
    return predict_rows(exported.directory, sent), exported.expect(means)


@pytest.mark.parametrize("index", range(len(MEANINGS)), ids=[str(sent)[:40] for sent, _ in MEANINGS])
def test_a_raw_row_means_what_the_transform_and_keras_make_of_it(predicted, index):
    sent, means = predicted
    assert sent[index] == pytest.approx(means[index], abs=1e-5)


def test_unknown_integers_differ_from_missing_ones(exported):
    missing, unknown, known = exported.expect([{}, {"Region code": UNKNOWN_INTEGER}, {"Region code": 7}])
    assert len({round(float(x), 6) for x in (missing, unknown, known)}) == 3


@pytest.mark.parametrize("signature", ["serving_default", "predict"])
def test_a_batch_gives_the_numbers_of_keras(exported, signature):
    outputs = predict_rows(exported.directory, ROWS, signature)
    np.testing.assert_allclose(outputs, exported.expect(ROWS), atol=1e-5)
    assert len(set(outputs)) == len(ROWS)


def test_assets_extra_is_written_and_nothing_else_is_left(exported):
    with open(os.path.join(exported.directory, "assets.extra", "plan.json"), encoding="utf-8") as file:
        assert file.read() == "{}"
    assert os.listdir(os.path.dirname(exported.directory)) == ["7"]
    files = {"plan.json", "reference_examples.tfrecord.gz", "reference_outputs.npy.gz"}
    assert set(os.listdir(os.path.join(exported.directory, "assets.extra"))) == files


def test_every_large_variable_is_written_once_and_small_ones_are_constants(exported, tmp_path, monkeypatch):
    monkeypatch.setattr("serving.export_graph.MAX_CONSTANT_BYTES", 0)
    model = build_model(["age"])

    _export(tmp_path / "model", model=model)

    assert sum(_written_sizes(tmp_path / "model")) == model.count_params()
    assert _written_sizes(exported.directory) == []


def _written_sizes(directory) -> list[int]:
    written = tf.train.list_variables(os.path.join(directory, "variables", "variables"))
    return [int(np.prod(shape)) for name, shape in written if name.endswith("VARIABLE_VALUE")]


def test_a_required_column_without_default_is_fed_its_stand_in(tmp_path):
    spec = {name: tf.io.FixedLenFeature([1], dtype) for name, dtype in [("s", tf.string), ("f", tf.float32)]}
    spec["i"] = tf.io.FixedLenFeature([], tf.int64)
    seen = {}

    class Recorder(CountValues):
        def __call__(self, raw):
            seen.update({name: x.shape.as_list() for name, x in raw.items()})
            return super().__call__(raw)

    directory = str(tmp_path / "model")
    export_saved_model(build_model(["s", "f", "i"]), Recorder(), spec, ["s", "f", "i"], directory)
    assert seen == {"s": [None, 1], "f": [None, 1], "i": [None]}
    assert len(predict_rows(directory, [{}, {"s": "x", "f": 1, "i": 2}])) == 2


def test_a_saved_model_is_replaced_but_other_files_are_not(exported, tmp_path):
    directory = tmp_path / "model"
    directory.mkdir()
    (directory / "notes.txt").write_text("mine")
    with pytest.raises(FileExistsError, match="no SavedModel that could be replaced"):
        _export(directory)
    (directory / "notes.txt").rename(directory / "saved_model.pb")
    _export(directory)
    assert predict_rows(directory, [{}])
    assert os.listdir(tmp_path) == ["model"]


def test_an_export_to_a_remote_store_is_complete():
    _export("ram://bucket/versions/1", extra_assets={"plan.json": "{}"})
    assert tf.io.gfile.listdir("ram://bucket/versions") == ["1"]
    assert tf.io.gfile.listdir("ram://bucket/versions/1/assets.extra") == ["plan.json"]
    assert len(predict_rows("ram://bucket/versions", [{}])) == 1


@pytest.mark.parametrize(("store", "operation"), [("{}/model", "rename"), ("ram://failing/model", "copy")])
def test_nothing_half_written_stays_when_an_export_fails(tmp_path, monkeypatch, store, operation):
    def fail(*args, **kwargs):
        raise OSError("disk full")

    monkeypatch.setattr(tf.io.gfile, operation, fail)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    directory = store.format(tmp_path)
    with pytest.raises(OSError, match="disk full"):
        _export(directory, extra_assets={"plan.json": "{}"})
    assert os.listdir(tmp_path) == []
    assert not tf.io.gfile.exists(directory)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"raw_feature_spec": {}}, "names no column"),
        ({"raw_feature_spec": {"x": tf.io.FixedLenFeature([2], tf.int64)}}, "'x': needs one value a row"),
        ({"raw_feature_spec": {"x": tf.io.VarLenFeature(tf.float64)}}, "'x': dtype must be .* received float64"),
        ({"raw_feature_spec": {"x": tf.io.RaggedFeature(tf.int64)}}, "'x': needs VarLenFeature"),
        (
            {"raw_feature_spec": {n: tf.io.VarLenFeature(tf.int64) for n in ("a b", "A-b")}},
            "'a b' and 'A-b' are one name",
        ),
        ({"numeric_columns": ["agee"]}, r"numeric_columns names \['agee'\]"),
        ({"extra_assets": {"../plan.json": ""}}, "plain file names"),
        ({"feature_names": ["nothing"]}, r"no feature \['nothing'\]"),
    ],
)
def test_wrong_arguments_are_named_before_anything_is_written(tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        _export(tmp_path / "model", **changes)
    assert os.listdir(tmp_path) == []


def test_a_model_that_gives_no_single_probability_is_rejected(tmp_path):
    age = keras.Input([], dtype="int64", name="age")
    with pytest.raises(ValueError, match=r"must return probabilities \[B, 1\]; it returns shape \(None, 2\)"):
        _export(tmp_path / "model", model=keras.Model({"age": age}, keras.layers.Embedding(8, 2)(age)))
    assert os.listdir(tmp_path) == []


def _export(directory, **changes) -> None:
    arguments = {
        "model": build_model(["age"]),
        "transform": CountValues(),
        "raw_feature_spec": RAW_FEATURE_SPEC,
        "feature_names": ["age"],
        "numeric_columns": [] if "raw_feature_spec" in changes else NUMERIC_COLUMNS,
    }
    export_saved_model(directory=directory, **arguments | changes)
