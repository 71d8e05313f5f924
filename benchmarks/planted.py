"""Planted click data: how many dimensions each field needs is known, because the logits were made of so many.

Fields of rank r come in pairs, whose ids contribute `sum_k u_k[left] * v_k[right]`, k = 1 .. r, with u and v of equal
strength: neither can be told with fewer than r dimensions. A linear field contributes a weight of its id and needs one
dimension; a useless field contributes nothing. Labels are Bernoulli draws of the logits' sigmoid.
"""

import dataclasses
from collections.abc import Mapping

import numpy as np
import tensorflow as tf

import keras_dimgrow as kd

# Per profile, the vocabulary sizes of the fields of each rank, pairs side by side; "linear" is rank 1 without a partner.
PROFILES: dict[str, dict[str, tuple[int, ...]]] = {
    "full": {
        "rank4": (60, 400),
        "rank2": (20, 300, 50, 150),
        "rank1": (8, 600, 30, 200, 4, 60),
        "linear": (4, 6, 12, 30, 80, 200, 600, 2000),
        "useless": (4, 4, 5, 6, 8, 10, 15, 20, 30, 50, 80, 120, 200, 300, 500, 800, 1500, 3000, 5000),
    },
    "small": {
        "rank4": (30, 60),
        "rank2": (40, 100),
        "rank1": (20, 200),
        "linear": (8, 300),
        "useless": (4, 30, 200, 800),
    },
}
RANKS = {"rank4": 4, "rank2": 2, "rank1": 1, "linear": 1, "useless": 0}
# Standard deviation of what a pair, or a linear field, adds to the logit.
STRENGTHS = {"rank4": 1.5, "rank2": 1.0, "rank1": 0.8, "linear": 0.4}
BIAS = -1.0
# Of each factor: without main effects a network finds no interaction to start from.
MEAN = 0.5


@dataclasses.dataclass(frozen=True)
class Planted:
    """Planted rows.

    Attributes:
        fields: the fields, named after their kind: "rank4_0", "useless_3".
        ids: int32 [rows, F].
        labels: float32 [rows], 0 or 1.
        ranks: field name -> dimensions that it needs.
        splits: "train", "validation" and "test" -> slice of the rows.
    """

    fields: tuple[kd.Field, ...]
    ids: np.ndarray
    labels: np.ndarray
    ranks: Mapping[str, int]
    splits: Mapping[str, slice]

    def batches(self, split: str, batch_size: int, seed: int = 0) -> tf.data.Dataset:
        """Batches of ({field: int32 [B]}, label [B]): training rows in a new order each pass, without a short last batch."""
        ids, labels = tf.constant(self.ids[self.splits[split]]), tf.constant(self.labels[self.splits[split]])
        names, num_rows = [field.name for field in self.fields], len(labels)

        def order(pass_seed):
            rows = tf.random.experimental.stateless_shuffle(tf.range(num_rows), [seed, pass_seed])
            rows = tf.reshape(rows[: num_rows // batch_size * batch_size], [-1, batch_size])
            return tf.data.Dataset.from_tensor_slices(rows)

        def gather(rows):
            return dict(zip(names, tf.unstack(tf.gather(ids, rows), axis=1), strict=True)), tf.gather(labels, rows)

        if split == "train":
            passes = tf.data.Dataset.random(seed=seed, rerandomize_each_iteration=True).take(1)
            cardinality = tf.data.experimental.assert_cardinality(num_rows // batch_size)
            rows = passes.map(lambda value: value // 2).flat_map(order).apply(cardinality)
        else:
            rows = tf.data.Dataset.range(num_rows).batch(batch_size)
        return rows.map(gather).prefetch(2)


def make_planted(profile: str, num_rows: int, seed: int = 0, zipf_exponent: float = 0.5) -> Planted:
    """Draws planted rows: 60% to train, 15% to validate, 25% to test.

    Args:
        profile: a name in PROFILES.
        num_rows: rows in all.
        seed: seed of everything.
        zipf_exponent: the i-th most frequent id of a field is drawn in proportion to i^-zipf_exponent; 0 is uniform.
    """
    rng = np.random.default_rng(seed)
    sizes = {f"{kind}_{i}": size for kind, all_ in PROFILES[profile].items() for i, size in enumerate(all_)}
    ids = {}
    for name, size in sizes.items():
        weights = np.arange(1.0, size + 1) ** -zipf_exponent
        ids[name] = rng.choice(size, num_rows, p=weights / weights.sum())
    logits = np.full(num_rows, BIAS)
    for kind, strength in STRENGTHS.items():
        names, rank = [name for name in sizes if name.startswith(f"{kind}_")], RANKS[kind]
        if kind == "linear":
            parts = [_factors(rng, sizes[name], 1)[ids[name], 0] for name in names]
        else:
            pairs = zip(names[::2], names[1::2], strict=True)
            products = (_factors(rng, sizes[a], rank)[ids[a]] * _factors(rng, sizes[b], rank)[ids[b]] for a, b in pairs)
            parts = [product.sum(1) / rank**0.5 for product in products]
        logits += strength * sum(parts)
    labels = rng.random(num_rows) < 1 / (1 + np.exp(-logits))
    first, second = int(0.6 * num_rows), int(0.75 * num_rows)
    return Planted(
        fields=tuple(kd.Field(name=name, vocabulary_size=size) for name, size in sizes.items()),
        ids=np.stack(list(ids.values()), axis=1).astype(np.int32),
        labels=labels.astype(np.float32),
        ranks={name: RANKS[name.rsplit("_", 1)[0]] for name in sizes},
        splits={"train": slice(first), "validation": slice(first, second), "test": slice(second, None)},
    )


def _factors(rng: np.random.Generator, size: int, rank: int) -> np.ndarray:
    """`rank` columns over the vocabulary, [size, rank], orthogonal but for a common mean."""
    values = rng.normal(size=(size, rank))
    return np.linalg.qr(values - values.mean(0))[0] * size**0.5 + MEAN
