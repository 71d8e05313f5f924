"""What keras_dimgrow.tfrs asks of a process, and what it says where that is missing."""

import importlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

import keras_dimgrow.tfrs

LATE = """
import os
import tensorflow as tf
tf.keras.layers
os.environ["TF_USE_LEGACY_KERAS"] = "1"
import keras_dimgrow.tfrs
"""


@pytest.mark.parametrize("package", ["tensorflow_recommenders", "tf_keras"])
def test_a_missing_package_is_named_with_its_extra(monkeypatch, package):
    monkeypatch.setitem(sys.modules, package, None)

    with pytest.raises(ImportError, match=rf"needs {package}, not installed here.*pip install keras-dimgrow\[tfrs\]"):
        importlib.reload(keras_dimgrow.tfrs)


@pytest.mark.parametrize("value", [None, "0"])
def test_without_the_variable_the_error_says_what_to_put_where(monkeypatch, value):
    monkeypatch.delenv("TF_USE_LEGACY_KERAS")
    if value is not None:
        monkeypatch.setenv("TF_USE_LEGACY_KERAS", value)

    with pytest.raises(
        RuntimeError, match=rf"received TF_USE_LEGACY_KERAS={value!r}. Put .* at the top of the program"
    ):
        importlib.reload(keras_dimgrow.tfrs)


def test_a_variable_set_after_keras_3_became_tf_keras_is_too_late():
    environment = {key: value for key, value in os.environ.items() if key != "TF_USE_LEGACY_KERAS"}

    finished = subprocess.run(
        [sys.executable, "-c", LATE],
        cwd=Path(__file__).parents[2],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )

    said = finished.stderr.strip().splitlines()[-1]
    assert said.startswith("RuntimeError: TF_USE_LEGACY_KERAS=1 was set too late")
    assert said.count("at the top of the program") == 1
