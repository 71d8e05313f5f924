"""Neural factorisation machine over adapted embeddings."""

import keras

from keras_dimgrow.models.backbone import DeepBackbone
from keras_dimgrow.models.interactions import concat_fields, pool_pairs
from keras_dimgrow.models.perceptron import linear_layer


@keras.saving.register_keras_serializable("keras_dimgrow")
class NFM(DeepBackbone):
    """Neural factorisation machine: `sigmoid(w_0 + sum_i <w_i, h_i> + perceptron(sum_{i<j} h_i * h_j))`.

    The first-order term is linear in the adapted embeddings, as in `FM`. Without the paper's batch normalisation, so
    that search and retraining treat all backbones alike.

    Args:
        hidden_units: width of each hidden layer.
        dropout: dropout rate after each hidden layer.
        seed: seed of initial values and dropout.

    Input shape: `[B, F, k]`. Output shape: `[B, 1]`, probabilities.

    Example:
        >>> NFM(seed=0)(keras.ops.ones((5, 3, 8))).shape
        TensorShape([5, 1])

    References:
        He and Chua, Neural Factorization Machines for Sparse Predictive Analytics, SIGIR 2017 (arXiv 1708.05027),
        equations (2) to (4).
    """

    def build(self, input_shape):
        super().build(input_shape)
        self.linear = linear_layer(self, self.seed, 0)
        self.linear.build((None, input_shape[1] * input_shape[2]))
        self.deep.build((None, input_shape[2]))

    def terms(self, inputs, training=None):
        return self.linear(concat_fields(inputs)), self.deep(pool_pairs(inputs), training=training)
