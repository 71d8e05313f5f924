"""Deep learning recommendation model over adapted embeddings."""

import keras

from keras_dimgrow.models.backbone import DeepBackbone
from keras_dimgrow.models.interactions import pair_products


@keras.saving.register_keras_serializable("keras_dimgrow")
class DLRM(DeepBackbone):
    """DLRM: a perceptron over the inner products of all pairs of fields and one vector of width k beside them.

    In the paper that vector comes from the dense features. Here numbers are fields too (bucketed), so the sum of the
    fields' embeddings takes its place: what one field says alone reaches the perceptron.

    Args:
        hidden_units: width of each hidden layer.
        dropout: dropout rate after each hidden layer.
        seed: seed of initial values and dropout.

    Input shape: `[B, F, k]`. Output shape: `[B, 1]`, probabilities.

    Example:
        >>> DLRM(seed=0)(keras.ops.ones((5, 3, 8))).shape
        TensorShape([5, 1])

    References:
        Naumov et al., Deep Learning Recommendation Model for Personalization and Recommendation Systems, 2019
        (arXiv 1906.00091), section 2.2.
    """

    def build(self, input_shape):
        super().build(input_shape)
        _, num_fields, width = input_shape
        self.deep.build((None, width + num_fields * (num_fields - 1) // 2))

    def terms(self, inputs, training=None):
        x = keras.ops.concatenate([keras.ops.sum(inputs, axis=1), pair_products(inputs)], axis=1)
        return (self.deep(x, training=training),)
