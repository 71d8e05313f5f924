"""What each dimension of a table is worth, measured on held-out rows in one pass (docs/decisions/0006).

One dimension's importance is diluted over redundant dimensions, so that shuffling columns one by one (arXiv 2505.12683,
section 4.1) cannot show how many a field needs. Here a field's embedding is rotated first: by the singular vectors of
C^1/2 A^1/2, where C [d, d] is the covariance of its embeddings e over rows and A [d, d] the mean of p (1 - p) a a', a being
the slope of the logit in e. Component k then adds q_k b_k to a row's logit, to first order, and components come in order
of what they add. Taking out the last ones moves the logit by the sum of theirs, and the loss of that logit is exact:
one pass forward and back over the held-out rows gives the held-out loss of every dimension of every field.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from keras_dimgrow.distributed import from_chief
from keras_dimgrow.layers import GrowableEmbedding
from keras_dimgrow.models import RankingModel

_CLIP = 1e-6  # of probabilities, as float32 has them
_MIN_EIGENVALUE = 1e-10  # relative to the largest


@dataclasses.dataclass(frozen=True)
class Spectrum:
    """The components of one table, strongest first.

    Attributes:
        directions: [d, d]; the value of component k in a row is (e - mean e) . directions[:, k], of variance 1.
        duals: [d, d]; `directions @ duals` is the identity.
        gains: [d]; how much the held-out log loss, in nats, rises when component k goes after those behind it have gone.
        errors: [d]; the standard error of each gain over rows.
        additivity: in [0, 1]; the share of the strongest component's squared slope that is the same in all rows. Near 1
            the table adds a function of its value to the logit, whatever the other fields are: one dimension holds any such
            function.
    """

    directions: np.ndarray
    duals: np.ndarray
    gains: np.ndarray
    errors: np.ndarray
    additivity: float

    def projection(self, rank: int) -> tuple[np.ndarray, np.ndarray]:
        """What `GrowableEmbedding.project` needs to keep the first `rank` components.

        Returns:
            An orthonormal basis [d, rank] of the kept directions, and mixing [rank, d] such that e basis mixing is e projected
            on the kept components along the others. (A whitened basis would change the scale that moments are for.)
        """
        basis, triangle = np.linalg.qr(self.directions[:, :rank])
        return basis, triangle @ self.duals[:rank]


@dataclasses.dataclass(frozen=True)
class Look:
    """One look at the held-out rows: the spectrum of each table, mean log loss in nats and the probabilities [rows]."""

    spectra: list[Spectrum]
    log_loss: float
    probabilities: np.ndarray


class HeldOutRows:
    """Held-out rows, and the pass over them.

    Args:
        model: a RankingModel with a GrowableEmbedding.
        batches: ({field: ids}, label [B]); read once and kept.
        max_rows: at most about this many rows are read.
    """

    def __init__(self, model: RankingModel, batches: tf.data.Dataset, max_rows: int):
        self.layer: GrowableEmbedding = model.embedding
        self._inputs, labels, num_rows = [], [], 0
        for inputs, batch_labels in batches:
            self._inputs.append(inputs)
            labels.append(np.ravel(batch_labels) > 0.5)
            num_rows += len(labels[-1])
            if num_rows >= max_rows:
                break
        if not labels:
            raise ValueError("search: validation_data has no batches. Pass held-out rows, ({field: ids}, label [B]).")
        self.labels = np.concatenate(labels)
        layer, backbone = self.layer, model.backbone

        @tf.function(reduce_retracing=True)
        def look(inputs):
            embeddings = layer.embed(inputs)
            with tf.GradientTape() as tape:
                adapted = layer.adapt(embeddings)
                tape.watch(adapted)
                p = tf.cast(tf.squeeze(backbone(adapted, training=False), 1), tf.float32)
                p = tf.clip_by_value(p, _CLIP, 1 - _CLIP)
                logits = tf.math.log(p) - tf.math.log1p(-p)
            slopes = layer.slopes(tape.gradient(logits, adapted), embeddings)
            return tf.cast(tf.concat(embeddings, axis=1), tf.float32), tf.cast(slopes, tf.float32), logits

        self._look = look

    def look(self) -> Look:
        """Measures the model as it is now."""
        parts = [self._look(inputs) for inputs in self._inputs]
        # Columns first: what follows runs along the rows of data.
        embeddings, slopes = (np.concatenate([np.transpose(part[i]) for part in parts], axis=1) for i in (0, 1))
        logits = np.concatenate([part[2] for part in parts])
        signs = np.where(self.labels, np.float32(-1), np.float32(1))
        p = 1 / (1 + np.exp(-logits))
        bounds = self.layer.bounds()
        spectra = []
        for table in range(len(self.layer.tables)):
            columns = [slice(*bounds[f : f + 2]) for f, owner in enumerate(self.layer.table_of) if owner == table]
            e, a = ([values[part] for part in columns] for values in (embeddings, slopes))
            spectra.append(measure(e, a, logits, signs, p * (1 - p)))
        loss = np.logaddexp(np.float32(0), signs * logits)
        return _agreed(Look(spectra, float(loss.mean(dtype=np.float64)), p))


def _agreed(look: Look) -> Look:
    """The look of the first of several workers: what all decide by."""
    arrays = [array for s in look.spectra for array in (s.directions, s.duals, s.gains, s.errors)]
    additivity = np.array([s.additivity for s in look.spectra])
    *arrays, additivity, loss, p = from_chief([*arrays, additivity, np.array(look.log_loss), look.probabilities])
    parts = zip(arrays[0::4], arrays[1::4], arrays[2::4], arrays[3::4], additivity.tolist(), strict=True)
    return Look([Spectrum(*of_table) for of_table in parts], float(loss), p)


def measure(
    embeddings: Sequence[np.ndarray],
    slopes: Sequence[np.ndarray],
    logits: np.ndarray,
    signs: np.ndarray,
    curvatures: np.ndarray,
) -> Spectrum:
    """The spectrum of one table, whose fields have these embeddings and slopes.

    Args:
        embeddings: e of each field of the table, [d, N].
        slopes: the gradient of the logit in e, of each of these fields, [d, N].
        logits: of the model as it is, [N].
        signs: -1 for label 1, 1 for label 0, [N]: the loss is log(1 + exp(sign * logit)).
        curvatures: p (1 - p), [N].
    """
    dim, num_rows = embeddings[0].shape
    if not dim:
        return Spectrum(np.zeros((0, 0)), np.zeros((0, 0)), np.zeros(0), np.zeros(0), 0.0)
    centred = [e - e.mean(1, keepdims=True) for e in embeddings]
    covariance = sum((e @ e.T).astype(np.float64) for e in centred) / num_rows
    curvature = sum(((a * curvatures) @ a.T).astype(np.float64) for a in slopes) / num_rows
    root, inverse_root = _square_roots(covariance)
    rotation = np.linalg.svd(root @ _square_roots(curvature)[0])[0]
    directions, duals = inverse_root @ rotation, rotation.T @ root
    of_components = [duals.astype(a.dtype) @ a for a in slopes]
    contributions = sum((directions.T.astype(e.dtype) @ e) * b for e, b in zip(centred, of_components, strict=True))
    # Of components k, k + 1, ...: what a logit loses when they go.
    tails = np.cumsum(contributions[::-1], axis=0)[::-1]
    losses = np.logaddexp(np.float32(0), signs * (logits - np.append(tails, np.zeros_like(tails[:1]), axis=0)))
    rises = losses[:-1] - losses[1:]
    gains, errors = rises.mean(1, dtype=np.float64), rises.std(1) / num_rows**0.5
    return Spectrum(directions, duals, gains, errors, _constant_share([b[0] for b in of_components], curvatures))


def _constant_share(slopes: Sequence[np.ndarray], weights: np.ndarray) -> float:
    """How much of the weighted mean squares of slopes [N], of one or several fields, their means make."""
    total = sum(float(np.average(b * b, weights=weights)) for b in slopes)
    return sum(float(np.average(b, weights=weights)) ** 2 for b in slopes) / total if total > 0 else 0.0


def _square_roots(matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The symmetric square root of a positive semidefinite matrix, and its inverse with eigenvalues bounded from below."""
    values, vectors = np.linalg.eigh(matrix)
    values = np.maximum(values, max(values.max(), 1e-30) * _MIN_EIGENVALUE)
    return (vectors * values**0.5) @ vectors.T, (vectors * values**-0.5) @ vectors.T
