"""What a later run needs of a model to go on from it, beside the SavedModel in the Trainer's artifact `model`.

Format-Serving/       the SavedModel, which is all that is served; its assets.extra/plan.json is the plan
continuation/
    model.keras       the Keras model as it was trained, before its tables were stored in fewer bytes
    settings.json     what its backbone was built with, a ModelConfig
    vocabularies/     a text file for each column, named by it (percent-encoded)
"""

import os
import tempfile
import urllib.parse
from collections.abc import Mapping

import keras
import numpy as np
import tensorflow as tf

from keras_dimgrow import ModelConfig, grow_vocabulary
from pipeline.vocabularies import read_vocabulary

DIRECTORY = "continuation"


def directory_of(serving_model_dir: str) -> str:
    """Where a Trainer that exports to `serving_model_dir` keeps what the next run needs."""
    return os.path.join(os.path.dirname(serving_model_dir.rstrip("/")), DIRECTORY)


def write_continuation(
    directory: str, model: keras.Model, settings: ModelConfig, vocabularies: Mapping[str, str]
) -> None:
    """Writes a model for a later run.

    Args:
        directory: may be remote.
        model: the model as it was trained.
        settings: what its backbone was built with.
        vocabularies: column -> path of its vocabulary.
    """
    target = os.path.join(directory, "vocabularies")
    tf.io.gfile.makedirs(target)
    for column, path in vocabularies.items():
        tf.io.gfile.copy(path, os.path.join(target, urllib.parse.quote(column, safe=" ")), overwrite=True)
    with tf.io.gfile.GFile(os.path.join(directory, "settings.json"), "w") as file:
        file.write(settings.to_json())
    model.save(os.path.join(directory, "model.keras"))


def vocabularies_of(directory: str) -> dict[str, str]:
    """Column -> path of its vocabulary.

    Raises:
        ValueError: if there are none.
    """
    paths = sorted(tf.io.gfile.glob(os.path.join(directory, "vocabularies", "*")))
    if not paths:
        raise ValueError(
            f"{directory} has no vocabularies: the last blessed model was made by a version that did not keep them. Run once "
            "with warm_start: none."
        )
    return {urllib.parse.unquote(os.path.basename(path)): path for path in paths}


def load_grown_model(
    directory: str, settings: ModelConfig, vocabularies: Mapping[str, str]
) -> tuple[keras.Model, dict[str, int]]:
    """The model in `directory` with the ids of larger vocabularies, and how many values are new, by field.

    Args:
        directory: what `write_continuation` wrote.
        settings: what the backbone has to have been built with.
        vocabularies: field -> path of its vocabulary now. The last id, behind these, is that of unknown values: it has
            moved, and takes its vector along.

    Raises:
        ValueError: if the settings differ, or a vocabulary does not go on from the earlier one.
    """
    with tf.io.gfile.GFile(os.path.join(directory, "settings.json")) as file:
        earlier_settings = ModelConfig.from_json(file.read())
    if earlier_settings != settings:
        raise ValueError(
            f"warm_start: weights goes on with the model in {directory}, built with {earlier_settings}; received {settings}. "
            "Set the section model back, or train a new model: warm_start: plan."
        )
    with tempfile.TemporaryDirectory() as local:
        path = os.path.join(local, "model.keras")  # Keras reads weights from local files only
        tf.io.gfile.copy(os.path.join(directory, "model.keras"), path)
        model = keras.saving.load_model(path, compile=False)
    earlier = vocabularies_of(directory)
    origins, num_new = {}, {}
    for field in model.embedding.plan.fields:
        if field.name not in vocabularies or field.name not in earlier:
            continue
        before, now = (read_vocabulary(files[field.name]) for files in (earlier, vocabularies))
        if now[: len(before)] != before:
            raise ValueError(
                f"Field {field.name!r}: its vocabulary {vocabularies[field.name]} does not begin with that of the last "
                f"blessed model, {earlier[field.name]}. Transform and Trainer must go on from the same model."
            )
        num_new[field.name] = len(now) - len(before)
        known = np.arange(len(before))
        origins[field.name] = np.concatenate([known, np.full(num_new[field.name], -1), [len(before)]])
    return grow_vocabulary(model, origins), num_new
