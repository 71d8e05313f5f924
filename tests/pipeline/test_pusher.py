"""Pusher's executor, on artifacts made by hand: what it pushes, and when not."""

import os

import pytest
import tensorflow as tf
from tfx.types import artifact_utils, standard_artifacts

from pipeline.pusher.executor import Executor
from serving.versions import list_versions, publish_version
from serving.warmup import WarmupError, read_warmup


@pytest.fixture(scope="module")
def saved_model(tmp_path_factory):
    """A Model artifact's directory; its model halves the column x."""
    directory = tmp_path_factory.mktemp("model")
    spec = tf.TensorSpec([None], tf.float32, name="x")
    module = tf.Module()
    module.half = tf.function(lambda x: {"outputs": x[:, None] / 2}, input_signature=[spec], autograph=False)
    tf.saved_model.save(module, str(directory / "Format-Serving"), signatures={"predict": module.half})
    return directory


@pytest.fixture
def push(saved_model, tmp_path):
    """Runs the executor; returns the pushed_model artifact."""

    def push(is_blessed=True, is_infra_blessed=None, rows=(1.0, 2.0, 3.0), keep=0, num_records=4):
        artifacts = {
            "model": standard_artifacts.Model(),
            "model_blessing": standard_artifacts.ModelBlessing(),
            "examples": standard_artifacts.Examples(),
        }
        artifacts["model"].uri = str(saved_model)
        artifacts["model_blessing"].set_int_custom_property("blessed", int(is_blessed))
        artifacts["examples"].uri = str(tmp_path / "examples")
        artifacts["examples"].split_names = artifact_utils.encode_split_names(["train", "eval"])
        if is_infra_blessed is not None:
            artifacts["infra_blessing"] = standard_artifacts.InfraBlessing()
            artifacts["infra_blessing"].set_int_custom_property("blessed", int(is_infra_blessed))
        write_examples(tmp_path / "examples" / "Split-eval", rows)
        pushed = standard_artifacts.PushedModel()
        pushed.uri = str(tmp_path / "pushed")
        properties = {"root": str(tmp_path), "keep_versions": keep}
        properties["num_warmup_records"] = num_records
        Executor().Do({k: [v] for k, v in artifacts.items()}, {"pushed_model": [pushed]}, properties)
        return pushed

    return push


def write_examples(directory, values):
    directory.mkdir(parents=True, exist_ok=True)
    with tf.io.TFRecordWriter(str(directory / "data.gz"), "GZIP") as writer:
        for value in values:
            example = tf.train.Example()
            example.features.feature["x"].float_list.value.append(value)
            writer.write(example.SerializeToString())


def test_a_blessed_model_becomes_a_version_with_warm_up_records_of_real_rows(push, tmp_path):
    pushed = push()

    (version,) = list_versions(tmp_path / "serving_model")
    directory = tmp_path / "serving_model" / str(version)
    assert pushed.get_int_custom_property("pushed") == 1
    assert pushed.get_string_custom_property("pushed_destination") == str(directory)
    assert pushed.get_string_custom_property("pushed_version") == str(version)
    logs = read_warmup(directory)
    assert len(logs) == 4
    assert logs[0].predict_log.request.inputs["x"].float_val[:] == [1.0]
    assert read_warmup(pushed.uri) == logs
    assert os.path.exists(os.path.join(pushed.uri, "saved_model.pb"))


@pytest.mark.parametrize(("is_blessed", "is_infra_blessed"), [(False, None), (True, False), (False, True)])
def test_a_model_that_a_validator_refused_is_not_pushed(push, tmp_path, is_blessed, is_infra_blessed):
    pushed = push(is_blessed, is_infra_blessed)

    assert pushed.get_int_custom_property("pushed") == 0
    assert not (tmp_path / "serving_model").exists()


def test_a_model_that_ran_in_tf_serving_is_pushed(push):
    assert push(is_infra_blessed=True).get_int_custom_property("pushed") == 1


def test_old_versions_are_removed_and_none_where_all_are_kept(push, saved_model, tmp_path):
    for version in (1, 2, 3):
        publish_version(saved_model / "Format-Serving", tmp_path / "serving_model", version=version)
    push()
    assert len(list_versions(tmp_path / "serving_model")) == 4
    push(keep=2)
    newest = list_versions(tmp_path / "serving_model")
    assert len(newest) == 2
    assert newest[0] > 3


@pytest.mark.parametrize("arguments", [{"num_records": 0}, {"rows": ()}])
def test_without_records_or_rows_the_version_has_none(push, tmp_path, arguments):
    push(**arguments)

    (version,) = list_versions(tmp_path / "serving_model")
    assert read_warmup(tmp_path / "serving_model" / str(version)) == []


def test_nothing_is_pushed_when_warm_up_fails(push, tmp_path, monkeypatch):
    def fail(*arguments):
        raise WarmupError("record 0 fails")

    monkeypatch.setattr("pipeline.pusher.executor.replay_warmup", fail)
    with pytest.raises(WarmupError, match="record 0 fails"):
        push()
    assert list_versions(tmp_path / "serving_model") == []
