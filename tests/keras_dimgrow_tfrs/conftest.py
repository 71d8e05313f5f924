"""Keras 2 beside Keras 3, and one plan of unequal dimensions with its trained Keras 3 layer."""

import numpy as np
import pytest
import tensorflow as tf
import tf_keras

from keras_dimgrow import EmbeddingPlan, Field, PlannedEmbedding

DIMENSIONS = {"user_id": 3, "country": 2, "item id": 3, "hour": 0, "device": 1}
SIZES = {"user_id": 8, "country": 5, "item id": 12, "hour": 24, "device": 3}


@pytest.fixture(autouse=True)
def _seeded():
    tf_keras.utils.set_random_seed(7)


@pytest.fixture(scope="session")
def plan() -> EmbeddingPlan:
    """Five fields, of which `hour` is removed; equal dimensions are not neighbours."""
    return EmbeddingPlan.from_dimensions([Field(name=n, vocabulary_size=v) for n, v in SIZES.items()], DIMENSIONS)


@pytest.fixture(scope="session")
def ids() -> dict[str, np.ndarray]:
    """256 rows."""
    rng = np.random.default_rng(0)
    return {name: rng.integers(0, size, 256) for name, size in SIZES.items()}


@pytest.fixture(params=["joint", "per_field"])
def embedding(request, plan, ids) -> PlannedEmbedding:
    """A Keras 3 layer whose values are all different from one another."""
    layer = PlannedEmbedding(plan, 4, request.param, stddev=1.0, seed=1)
    layer(ids)
    return layer


def run_in_session(path: str, inputs: dict[str, np.ndarray]) -> list[np.ndarray]:
    """The outputs of `serving_default`, run as TF Serving runs them: by a Session."""
    with tf.compat.v1.Session(graph=tf.Graph()) as session:
        signature = tf.compat.v1.saved_model.load(session, ["serve"], path).signature_def["serving_default"]
        outputs = [signature.outputs[name].name for name in sorted(signature.outputs)]
        return session.run(outputs, {signature.inputs[name].name: value for name, value in inputs.items()})
