"""The programs in examples/ run, and find what their docstrings say."""

import importlib.util
import os
import pathlib
import re
import subprocess
import sys

import keras
import numpy as np
import pytest

from keras_dimgrow import LazyAdam

EXAMPLES = pathlib.Path(__file__).parents[2] / "examples"

pytestmark = pytest.mark.skipif(not EXAMPLES.is_dir(), reason="no examples/ beside these tests")


def run(name: str, directory) -> str:
    environment = os.environ | {"PYTHONPATH": str(EXAMPLES.parent)}
    finished = subprocess.run(
        [sys.executable, str(EXAMPLES / name)],
        cwd=directory,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert finished.returncode == 0, finished.stderr
    return finished.stdout


def test_the_example_with_its_own_train_step_finds_the_fields_that_matter(tmp_path):
    last = run("custom_train_step.py", tmp_path).splitlines()[-1]

    dimensions = {name: int(dim) for name, dim in re.findall(r"'(\w+)': (\d+)", last)}
    assert dimensions["hour"] == 0
    assert min(dimensions["user"], dimensions["item"]) >= 1


def test_the_loss_of_its_train_step_has_the_penalty_of_the_gates():
    spec = importlib.util.spec_from_file_location("custom_train_step", EXAMPLES / "custom_train_step.py")
    example = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(example)
    model = example.ClickModel()
    model.compile(LazyAdam(1e-9), "binary_crossentropy")
    ids = {field.name: np.arange(8) for field in example.FIELDS}
    labels = np.arange(8) % 2
    outputs = model(ids, training=True)
    penalty = float(sum(model.losses))
    model.embedding.shuffle_seed.assign([0, 0])

    loss = float(model.train_on_batch(ids, labels))

    entropy = float(keras.losses.BinaryCrossentropy()(labels[:, None], outputs))
    assert penalty > 1e-4
    assert loss == pytest.approx(entropy + penalty, rel=1e-5)


@pytest.mark.slow
def test_feature_selection_ranks_the_fields_of_adult(tmp_path):
    lines = [line.split() for line in run("feature_selection.py", tmp_path).splitlines()]
    gates = {line[0]: float(line[1]) for line in lines if len(line) == 2 and re.fullmatch(r"[01]\.\d+", line[1])}

    assert len(gates) == 14
    assert list(gates.values()) == sorted(gates.values(), reverse=True)
    assert min(gates[name] for name in ("age", "capital_gain", "occupation")) > 0.8
    assert max(gates[name] for name in ("fnlwgt", "race", "native_country")) < 0.2
