"""Inner product-based neural network over adapted embeddings."""

import keras

from keras_dimgrow.models.backbone import DeepBackbone
from keras_dimgrow.models.interactions import concat_fields, pair_products


@keras.saving.register_keras_serializable("keras_dimgrow")
class IPNN(DeepBackbone):
    """IPNN: a perceptron over all embeddings (the paper's z) and the inner products of all pairs (p).

    The first hidden layer computes the paper's `relu(l_z + l_p + b_1)`; each pair i != j comes once, and W_p is full
    rather than factorised.

    Args:
        hidden_units: width of each hidden layer.
        dropout: dropout rate after each hidden layer.
        seed: seed of initial values and dropout.

    Input shape: `[B, F, k]`. Output shape: `[B, 1]`, probabilities.

    Example:
        >>> IPNN(seed=0)(keras.ops.ones((5, 3, 8))).shape
        TensorShape([5, 1])

    References:
        Qu et al., Product-based Neural Networks for User Response Prediction, ICDM 2016 (arXiv 1611.00144).
    """

    def build(self, input_shape):
        super().build(input_shape)
        _, num_fields, width = input_shape
        self.deep.build((None, num_fields * width + num_fields * (num_fields - 1) // 2))

    def terms(self, inputs, training=None):
        x = keras.ops.concatenate([concat_fields(inputs), pair_products(inputs)], axis=1)
        return (self.deep(x, training=training),)
