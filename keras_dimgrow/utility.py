"""What each dimension of a field is worth: spectral components, measured on held-out rows in one pass.

(draft)
"""

import dataclasses

import keras
import numpy as np
import tensorflow as tf


@dataclasses.dataclass(frozen=True)
class Spectrum:
    basis: np.ndarray
    dual: np.ndarray
    gains: np.ndarray
    errors: np.ndarray


class Probe:
    """Held-out rows, and the pass over them."""

    def __init__(self, model: keras.Model, batches: tf.data.Dataset, rows_per_look: int, max_rows: int = 200_000):
        self.model = model
        inputs, labels, count = [], [], 0
        for x, y in batches.as_numpy_iterator():
            inputs.append(x)
            labels.append(np.ravel(y) > 0.5)
            count += len(labels[-1])
            if count >= max_rows:
                break
        self.inputs = {k: np.concatenate([x[k] for x in inputs]) for k in inputs[0]}
        self.labels = np.concatenate(labels)
        self.rows_per_look = min(rows_per_look, count)
        self.num_blocks = max(1, count // self.rows_per_look)
        layer = model.embedding

        @tf.function(reduce_retracing=True)
        def look(inputs):
            rows = layer.embed(inputs)
            with tf.GradientTape() as tape:
                h = layer.adapt(rows)
                tape.watch(h)
                p = tf.cast(tf.squeeze(model.backbone(h, training=False), 1), tf.float32)
                p = tf.clip_by_value(p, 1e-6, 1 - 1e-6)
                z = tf.math.log(p) - tf.math.log1p(-p)
            slopes = tape.gradient(z, h)
            kernel = layer.kernel.value
            if layer.adapter == "joint":
                a = tf.matmul(slopes, kernel, transpose_b=True)
            else:
                widths = tf.stack([tf.shape(row)[1] for row in rows])
                owners = tf.repeat(tf.range(len(rows)), widths)
                a = tf.einsum("bdk,dk->bd", tf.gather(slopes, owners, axis=1), kernel)
            return tf.concat(rows, 1), a, z

        self._look = look

    def spectra(self, number: int):
        layer = self.model.embedding
        start = (number % self.num_blocks) * self.rows_per_look
        part = slice(start, start + self.rows_per_look)
        y = self.labels[part]
        e, a, z = (t.numpy() for t in self._look({k: tf.constant(v[part]) for k, v in self.inputs.items()}))
        sign = np.where(y, np.float32(-1), np.float32(1))
        loss = np.logaddexp(np.float32(0), sign * z)
        p = 1 / (1 + np.exp(-z))
        omega = p * (1 - p)
        bounds = layer._bounds_in_kernel()
        result = []
        for index in range(len(layer.tables)):
            owners = [f for f, table in enumerate(layer.table_of) if table == index]
            d = layer.allocated_dims[index]
            if d == 0:
                result.append(Spectrum(np.zeros((0, 0)), np.zeros((0, 0)), np.zeros(0), np.zeros(0)))
                continue
            es = [e[:, bounds[f] : bounds[f + 1]] for f in owners]
            es = [x - x.mean(0) for x in es]
            As = [a[:, bounds[f] : bounds[f + 1]] for f in owners]
            c = sum((x.T @ x).astype(np.float64) for x in es) / len(y)
            m = sum(((x * omega[:, None]).T @ x).astype(np.float64) for x in As) / len(y)
            cr, ci = _roots(c)
            u, s, _ = np.linalg.svd(cr @ _roots(m)[0])
            basis, dual = ci @ u, u.T @ cr
            dz = sum((x @ basis.astype(np.float32)) * (w @ dual.T.astype(np.float32)) for x, w in zip(es, As))
            tails = np.cumsum(dz[:, ::-1], axis=1)[:, ::-1]
            losses = np.logaddexp(np.float32(0), sign[:, None] * (z[:, None] - tails))
            losses = np.concatenate([losses, loss[:, None]], axis=1)
            steps = losses[:, :-1] - losses[:, 1:]
            result.append(Spectrum(basis, dual, steps.mean(0, dtype=np.float64), steps.std(0, dtype=np.float64) / len(y) ** 0.5))
        return result, float(loss.mean())


def _roots(matrix):
    values, vectors = np.linalg.eigh(matrix)
    values = np.maximum(values, max(values.max(), 1e-30) * 1e-10)
    return (vectors * values**0.5) @ vectors.T, (vectors * values**-0.5) @ vectors.T


def projection(spectrum: Spectrum, rank: int) -> tuple[np.ndarray, np.ndarray]:
    """basis Q [d, r] orthonormal and mixing [r, d] so that E Q mixing W = E P W."""
    q, r = np.linalg.qr(spectrum.basis[:, :rank])
    return q, r @ spectrum.dual[:rank]
