"""Planted data, small models, and warnings as errors for every test of the library."""

import os
import pathlib

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_dimgrow import Field

HERE = pathlib.Path(__file__).parent


def pytest_collection_modifyitems(items):
    for item in items:
        if HERE in item.path.parents:
            # First, so that a test's own filters come after it and win.
            item.add_marker(pytest.mark.filterwarnings("error"), append=False)


@pytest.fixture(autouse=True)
def _seeded():
    keras.utils.set_random_seed(7)


class Planted:
    """Rows whose logit is an interaction of known rank between `left` and `right`; `noise` says nothing.

    The interaction is `sum_r u_r[left] v_r[right]` with orthogonal u and v: fewer than `rank` dimensions of either field
    cannot express it.
    """

    def __init__(self, rank: int = 2, num_rows: int = 4096, vocabulary_size: int = 8, seed: int = 0):
        rng = np.random.default_rng(seed)
        size = vocabulary_size
        self.fields = (
            Field(name="left", vocabulary_size=size, max_dim=6),
            Field(name="noise", vocabulary_size=2 * size, max_dim=6),
            Field(name="right", vocabulary_size=size, max_dim=6),
        )
        self.ids = {
            f.name: rng.integers(0, f.vocabulary_size, num_rows, dtype=np.int64) for f in self.fields
        }
        u, v = (np.linalg.qr(rng.normal(size=(size, size)))[0][:, :rank] * size**0.5 for _ in range(2))
        self.logits = 2.0 * (u[self.ids["left"]] * v[self.ids["right"]]).sum(1)
        self.labels = (rng.random(num_rows) < 1 / (1 + np.exp(-self.logits))).astype(np.float32)

    def batches(self, batch_size: int = 256, shuffle_seed: int | None = 0) -> tf.data.Dataset:
        """The rows in batches, in a new order in each pass; built anew, so that every caller sees the same orders."""
        data = tf.data.Dataset.from_tensor_slices((self.ids, self.labels))
        if shuffle_seed is not None:
            data = data.shuffle(len(self.labels), seed=shuffle_seed)
        return data.batch(batch_size)


@pytest.fixture(scope="session")
def planted() -> Planted:
    return Planted()


@pytest.fixture(scope="session")
def planted_validation() -> Planted:
    return Planted(num_rows=1024, seed=0)
