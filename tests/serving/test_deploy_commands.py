"""`python -m serving publish | versions | rollback | warmup | configure`, as a person uses them."""

import json
import os
import re
import shutil

import pytest
import tensorflow as tf

from serving.cli import main
from serving.warmup import read_warmup
from tests.serving.conftest import ROWS, serialize


def run(capsys, *arguments):
    status = main([str(argument) for argument in arguments])
    captured = capsys.readouterr()
    return status, captured.out, captured.err


def test_a_model_is_published_with_warm_up_records_then_rolled_back_and_forward(exported, tmp_path, capsys):
    base, rows = tmp_path / "served", tmp_path / "rows.json"
    rows.write_text(json.dumps(ROWS))
    for version in (1, 2):
        assert run(capsys, "publish", exported.directory, base, "--version", version)[0] == 0
    arguments = ("publish", exported.directory, base, "--version", 3, "--keep", 2)
    status, out, err = run(capsys, *arguments, "--json", f"@{rows}", "--records", 8)
    assert (status, err) == (0, "")
    assert out == f"published {base}/3; versions 2, 3\n"
    assert len(read_warmup(base / "3")) == 8

    assert run(capsys, "rollback", base) == (0, "the newest version is 2; withdrawn 3\n", "")
    assert run(capsys, "versions", base) == (0, "2  newest\n3  withdrawn\n", "")
    assert run(capsys, "rollback", base, "--undo") == (0, "the newest version is 3\n", "")
    assert run(capsys, "rollback", base, "--to", 2)[:2] == (0, "the newest version is 2; withdrawn 3\n")


def test_the_newest_version_of_a_directory_is_what_is_published(exported, tmp_path, capsys):
    status, _, err = run(capsys, "publish", os.path.dirname(exported.directory), tmp_path / "served", "--version", 1)
    assert (status, err) == (0, f"using {exported.directory}\n")
    assert sorted(os.listdir(tmp_path / "served" / "1")) == sorted(os.listdir(exported.directory))
    assert read_warmup(tmp_path / "served" / "1") == []


def test_records_are_made_of_tf_examples_and_replayed(exported, tmp_path, capsys):
    model, file = shutil.copytree(exported.directory, tmp_path / "model"), f"{tmp_path}/rows.tfrecord.gz"
    with tf.io.TFRecordWriter(file, "GZIP") as writer:
        for row in ROWS:
            writer.write(serialize(row))
    status, out, err = run(capsys, "warmup", model, "--examples", file, "--records", 6)
    assert (status, err) == (0, "")
    assert sum(int(count) for count in re.findall(r"  (\d+) records replayed\n", out)) == 6
    assert run(capsys, "warmup", model) == (0, out, "")


def test_rows_that_fail_leave_no_version_and_no_records(exported, tmp_path, capsys):
    model = shutil.copytree(exported.directory, tmp_path / "model")
    for arguments in (("publish", model, tmp_path / "served"), ("warmup", model)):
        status, _, err = run(capsys, *arguments, "--json", '{"age": "old"}')
        assert status == 2
        assert err.startswith("error: Column 'age': 'old' is no ")
    assert read_warmup(model) == []
    assert os.listdir(tmp_path / "served") == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["publish", "/nowhere", "{}"], "error: No such directory: /nowhere."),
        (["versions", "{}/nowhere"], "error: No such directory: {}/nowhere. Publish a first version to it."),
        (["rollback", "{}"], "error: {} has versions []: none to go back to."),
        (["warmup", "/nowhere", "--json", "[]"], "error: No such directory: /nowhere."),
        (["configure", "{}", "--name", "Ads"], "error: name must be"),
        (["configure", "{}", "--name", "ads", "--label", "stable"], "error: --label takes LABEL=VERSION"),
        (["configure", "{}", "--name", "ads", "--labels-from", "{}"], "error: {} has no version to label."),
    ],
)
def test_errors_are_one_line_and_status_2(capsys, tmp_path, arguments, message):
    status, _, err = run(capsys, *(argument.format(tmp_path) for argument in arguments))
    assert status == 2
    assert err.startswith(message.format(tmp_path))
    assert err.count("\n") == 1
    assert os.listdir(tmp_path) == []


def test_labels_are_taken_from_the_versions_that_are_there(tmp_path, capsys):
    for version in (3, 12):
        (tmp_path / "models" / str(version)).mkdir(parents=True)
        (tmp_path / "models" / str(version) / "saved_model.pb").touch()
    status, out, err = run(
        capsys, "configure", tmp_path / "deploy", "--name", "ads", "--labels-from", tmp_path / "models"
    )
    assert (status, err) == (0, "")
    text = (tmp_path / "deploy" / "models.config").read_text()
    assert 'version_labels { key: "stable" value: 3 }' in text
    assert 'version_labels { key: "canary" value: 12 }' in text
    assert out.splitlines()[0] == str(tmp_path / "deploy" / "models.config")


def test_labels_and_other_settings_may_be_given(tmp_path, capsys):
    options = ["--label", "stable=3", "--batching", "--image", "ads:9", "--serving-version", "2.18.0"]
    assert run(capsys, "configure", tmp_path, "--name", "ads", *options, "--storage-uri", "gs://b/ads")[0] == 0
    assert "ads:9" in (tmp_path / "kubernetes.yaml").read_text()
    assert "FROM tensorflow/serving:2.18.0\n" in (tmp_path / "Dockerfile").read_text()
    assert "--enable_batching=true" in (tmp_path / "compose.yaml").read_text()
    assert "storageUri: gs://b/ads\n" in (tmp_path / "kserve.yaml").read_text()
