"""A Keras model out of an embedding layer and a backbone."""

import dataclasses

import keras

from keras_dimgrow.config import Config
from keras_dimgrow.models.wide_deep import WideDeep


@dataclasses.dataclass(frozen=True, kw_only=True)
class ModelConfig(Config):
    """The model around the embeddings, the same in search, retraining and comparison.

    Args:
        adapter_width: d_bb, what the adapter makes of all embeddings.
        hidden_units: hidden layers of the backbone.
        dropout: dropout rate after each hidden layer.
    """

    adapter_width: int = 64
    hidden_units: tuple[int, ...] = (64, 32)
    dropout: float = 0.0

    def __post_init__(self) -> None:
        self._require_int("adapter_width", 1)
        self._require_number("dropout", 0.0, 0.99)
        is_valid = isinstance(self.hidden_units, tuple) and all(isinstance(u, int) and u > 0 for u in self.hidden_units)
        self._require("hidden_units", is_valid and bool(self.hidden_units), "a non-empty list of positive integers")


def build_model(embedding: keras.layers.Layer, config: ModelConfig, seed: int) -> keras.Model:
    """A model from a dict of ids, int64 [B] a field, to probabilities [B, 1].

    Args:
        embedding: a `DimGrowEmbedding` (all its fields are inputs) or a `PlannedEmbedding` (its kept fields are).
        config: the backbone's sizes.
        seed: seed of the backbone's initial values.
    """
    inputs = {field.name: keras.Input((), dtype="int64", name=field.name) for field in embedding.fields}
    backbone = WideDeep(config.hidden_units, config.dropout, seed=seed, name="wide_deep")
    return keras.Model(inputs, backbone(embedding(inputs)))
