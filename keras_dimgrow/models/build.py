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


@keras.saving.register_keras_serializable("keras_dimgrow")
class RankingModel(keras.Model):
    """An embedding layer and a backbone: ids of fields in, probabilities out.

    A subclass rather than a functional model: fields may have any name, and inputs of fields that the embedding does not
    have are ignored.

    Args:
        embedding: a `DimGrowEmbedding` or `PlannedEmbedding`.
        backbone: a layer from the embedding's output to `[B, 1]`.

    Input shape: dict {field name: int [B]}. Output shape: `[B, 1]`.
    """

    def __init__(self, embedding: keras.layers.Layer, backbone: keras.layers.Layer, **kwargs):
        super().__init__(**kwargs)
        self.embedding = embedding
        self.backbone = backbone

    def build(self, input_shape=None):
        shapes = {field.name: (None,) for field in self.embedding.fields}
        if not self.embedding.built:
            self.embedding.build(shapes)
        if not self.backbone.built:
            self.backbone.build(self.embedding.compute_output_shape(shapes))
        self.built = True

    def call(self, inputs, training=None):
        return self.backbone(self.embedding(inputs, training=training), training=training)

    def get_config(self):
        config = {key: keras.saving.serialize_keras_object(getattr(self, key)) for key in ("embedding", "backbone")}
        return super().get_config() | config

    @classmethod
    def from_config(cls, config):
        layers = {key: keras.saving.deserialize_keras_object(config.pop(key)) for key in ("embedding", "backbone")}
        return cls(**layers, **config)


def build_model(embedding: keras.layers.Layer, config: ModelConfig, seed: int) -> RankingModel:
    """A built Wide & Deep model over `embedding`.

    Args:
        embedding: a `DimGrowEmbedding` or `PlannedEmbedding`.
        config: the backbone's sizes.
        seed: seed of the backbone's initial values.
    """
    model = RankingModel(embedding, WideDeep(config.hidden_units, config.dropout, seed=seed, name="wide_deep"))
    model.build()
    return model
