"""AUC and log loss of a model on held-out rows."""

import dataclasses

import keras
import numpy as np
import tensorflow as tf


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """Area under the ROC curve, mean log loss in nats, and the number of rows they were measured on."""

    auc: float
    log_loss: float
    num_rows: int


def evaluate(model: keras.Model, batches: tf.data.Dataset) -> Evaluation:
    """Evaluates a model that gives probabilities [B, 1] on batches of (inputs, labels [B]).

    Example:
        >>> model = keras.Sequential([keras.Input((1,)), keras.layers.Activation("sigmoid")])
        >>> data = tf.data.Dataset.from_tensor_slices(([[-1.0], [0.5], [2.0]], [0, 1, 1])).batch(2)
        >>> evaluate(model, data).auc
        1.0
    """
    labels: list[np.ndarray] = []

    def remember(inputs, batch_labels):
        labels.append(batch_labels)
        return inputs

    def predict(inputs, num_rows: int) -> np.ndarray:
        # The first rows only: under a tf.distribute strategy each replica predicts the whole batch.
        return model.predict_on_batch(inputs)[:num_rows]

    if tf.distribute.get_strategy().cluster_resolver is not None:
        # Several workers, with whom Keras's own fails.
        traced = tf.function(lambda inputs: model(inputs, training=False), reduce_retracing=True)

        def predict(inputs, num_rows: int) -> np.ndarray:
            return traced(inputs).numpy()

    scores = [predict(remember(inputs, y), len(y)) for inputs, y in batches.as_numpy_iterator()]
    y, p = np.concatenate(labels).ravel(), np.concatenate(scores).ravel().astype(np.float64)
    clipped = np.clip(p, 1e-7, 1 - 1e-7)
    log_loss = -np.mean(np.where(y > 0, np.log(clipped), np.log1p(-clipped)))
    return Evaluation(auc=roc_auc(y, p), log_loss=float(log_loss), num_rows=len(y))


def roc_auc(labels: np.ndarray, scores: np.ndarray) -> float:
    """Exact area under the ROC curve: the share of (positive, negative) pairs ranked right, ties counting half.

    NaN if only one class is present.
    """
    _, inverse, counts = np.unique(scores, return_inverse=True, return_counts=True)
    mean_ranks = np.cumsum(counts) - (counts - 1) / 2.0
    positives = labels > 0
    num_positives, num_negatives = int(positives.sum()), int((~positives).sum())
    if not num_positives or not num_negatives:
        return float("nan")
    wins = mean_ranks[inverse][positives].sum() - num_positives * (num_positives + 1) / 2.0
    return float(wins / (num_positives * num_negatives))
