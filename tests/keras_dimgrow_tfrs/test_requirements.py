"""What keras_dimgrow.tfrs asks of a process, and what it says where that is missing."""

import importlib
import sys

import keras
import pytest
import tensorflow as tf

import keras_dimgrow.tfrs


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


def test_a_variable_set_after_keras_3_became_tf_keras_is_too_late(monkeypatch):
    monkeypatch.setattr(tf, "keras", keras)  # what tf.keras is once it was used without the variable

    with pytest.raises(RuntimeError, match=r"was set too late.*Start a new process. Put .* at the top of the program"):
        importlib.reload(keras_dimgrow.tfrs)
