"""DeepFM over adapted embeddings."""

import keras

from keras_dimgrow.models.backbone import DeepBackbone
from keras_dimgrow.models.interactions import concat_fields, sum_pair_products
from keras_dimgrow.models.perceptron import linear_layer


@keras.saving.register_keras_serializable("keras_dimgrow")
class DeepFM(DeepBackbone):
    """DeepFM: `sigmoid(y_FM + y_DNN)`, a factorisation machine and a perceptron over the same embeddings.

    The first-order term is linear in the adapted embeddings, as in `FM`.

    Args:
        hidden_units: width of each hidden layer.
        dropout: dropout rate after each hidden layer.
        seed: seed of initial values and dropout.

    Input shape: `[B, F, k]`. Output shape: `[B, 1]`, probabilities.

    Example:
        >>> DeepFM(seed=0)(keras.ops.ones((5, 3, 8))).shape
        TensorShape([5, 1])

    References:
        Guo et al., DeepFM: A Factorization-Machine based Neural Network for CTR Prediction, IJCAI 2017
        (arXiv 1703.04247), equations (1) to (4).
    """

    def build(self, input_shape):
        super().build(input_shape)
        shape = (None, input_shape[1] * input_shape[2])
        self.linear = linear_layer(self, self.seed, 0)
        self.linear.build(shape)
        self.deep.build(shape)

    def terms(self, inputs, training=None):
        x = concat_fields(inputs)
        return self.linear(x), sum_pair_products(inputs), self.deep(x, training=training)
