"""Planted data, small models, and warnings as errors for every test of the library."""

import gc
import pathlib

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_dimgrow import Field

HERE = pathlib.Path(__file__).parent
SEED = 7  # of each test; a fixture that lives longer sets it itself, because it is made before
WARNINGS = (
    "error",
    # Keras saves its variables by np.array(variable), which NumPy 2 wants to know more about.
    "ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning",
    # Keras's default, which it warns about for every dataset.
    "ignore:`shuffle=True` was passed:UserWarning",
)

# TensorFlow's own objects stay: without this, each full collection would walk them again, for seconds.
gc.freeze()


def pytest_collection_modifyitems(items):
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.filterwarnings(*WARNINGS), append=False)


@pytest.fixture(autouse=True)
def _seeded():
    keras.utils.set_random_seed(SEED)


class Planted:
    """Rows whose logit is an interaction of rank 2 between `left` and `right`; `noise` says nothing.

    The interaction is `sum_r u_r[left] v_r[right]` with orthogonal u and v.
    """

    def __init__(self, num_rows: int, seed: int = 0):
        rng = np.random.default_rng(seed)
        size, rank = 8, 2
        self.fields = (
            Field(name="left", vocabulary_size=size),
            Field(name="noise", vocabulary_size=8 * size),
            Field(name="right", vocabulary_size=size),
        )
        u, v = (np.linalg.qr(rng.normal(size=(size, size)))[0][:, :rank] * size**0.5 for _ in range(2))
        self.ids = {f.name: rng.integers(0, f.vocabulary_size, num_rows) for f in self.fields}
        logits = 2.0 * (u[self.ids["left"]] * v[self.ids["right"]]).sum(1)
        self.labels = (rng.random(num_rows) < 1 / (1 + np.exp(-logits))).astype(np.float32)

    def batches(self, batch_size: int = 256, is_shuffled: bool = True) -> tf.data.Dataset:
        """The rows in batches, in a new order in each pass; each call's orders are the same."""
        data = tf.data.Dataset.from_tensor_slices((self.ids, self.labels))
        if is_shuffled:
            data = data.shuffle(len(self.labels), seed=0)
        return data.batch(batch_size)


@pytest.fixture(scope="session")
def planted() -> Planted:
    """1000 rows: four batches of 256 in a pass, the last one short."""
    return Planted(1000)


@pytest.fixture(scope="session")
def many_planted() -> Planted:
    """So many rows that no field can be learned by heart in a few hundred steps."""
    return Planted(65536)
