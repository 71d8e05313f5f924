"""A Keras model out of an embedding layer and a backbone."""

import dataclasses
from typing import Any

import keras

from keras_dimgrow.config import Config
from keras_dimgrow.fields import Field, FieldInput
from keras_dimgrow.layers import ChunkedEmbedding, PartlyChunkedEmbedding, PlannedEmbedding
from keras_dimgrow.models.autoint import AutoInt
from keras_dimgrow.models.backbone import Backbone, DeepBackbone
from keras_dimgrow.models.dcn import DCN
from keras_dimgrow.models.deepfm import DeepFM
from keras_dimgrow.models.dlrm import DLRM
from keras_dimgrow.models.fm import FM
from keras_dimgrow.models.ipnn import IPNN
from keras_dimgrow.models.nfm import NFM
from keras_dimgrow.models.wide_deep import WideDeep
from keras_dimgrow.plan import EmbeddingPlan

# Each class says which adapter it takes: `BACKBONES[name].adapter`.
BACKBONES: dict[str, type[Backbone]] = {
    "autoint": AutoInt,
    "dcn": DCN,
    "deepfm": DeepFM,
    "dlrm": DLRM,
    "fm": FM,
    "ipnn": IPNN,
    "nfm": NFM,
    "wide_deep": WideDeep,
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class ModelConfig(Config):
    """The model around the embeddings, the same in search, retraining and comparison.

    Args:
        backbone: a name in `BACKBONES`.
        adapter_width: what the adapter makes of all embeddings (d_bb; wide_deep, dcn) or of each field's (k; the others).
        hidden_units: hidden layers of the backbone; fm has none.
        dropout: dropout rate after each hidden layer.
        max_gpu_table_bytes: what embedding tables with their optimizer slots may take of a GPU; the largest tables beyond it
            stay in the CPU's memory, with a warning that names them. None: 0.7 of the GPU's memory.

    Example:
        >>> ModelConfig(backbone="fm", adapter_width=8).adapter
        'per_field'
    """

    backbone: str = "wide_deep"
    adapter_width: int = 64
    hidden_units: tuple[int, ...] = (64, 32)
    dropout: float = 0.0
    max_gpu_table_bytes: int | None = None

    def __post_init__(self) -> None:
        is_known = isinstance(self.backbone, str) and self.backbone in BACKBONES
        self._require("backbone", is_known, f"one of {', '.join(BACKBONES)}")
        self._require_int("adapter_width", 1)
        self._require_number("dropout", 0.0, 0.99)
        self._require_int("max_gpu_table_bytes", 0, optional=True)
        is_valid = isinstance(self.hidden_units, tuple) and all(isinstance(u, int) and u > 0 for u in self.hidden_units)
        self._require("hidden_units", is_valid and bool(self.hidden_units), "a non-empty list of positive integers")

    @property
    def adapter(self) -> str:
        """The `adapter` that the embedding layer needs for this backbone: "joint" or "per_field"."""
        return BACKBONES[self.backbone].adapter

    def make_backbone(self, seed: int) -> Backbone:
        """The backbone, not yet built."""
        backbone = BACKBONES[self.backbone]
        sizes: dict[str, Any] = {}
        if issubclass(backbone, DeepBackbone):
            sizes = {"hidden_units": self.hidden_units, "dropout": self.dropout}
        return backbone(**sizes, seed=seed, name=self.backbone)


@keras.saving.register_keras_serializable("keras_dimgrow")
class RankingModel(keras.Model):
    """An embedding layer and a backbone: ids of fields in, probabilities out.

    A subclass rather than a functional model: fields may have any name, and inputs of fields that the embedding does not
    have are ignored.

    Args:
        embedding: a `DimGrowEmbedding` or `PlannedEmbedding`.
        backbone: a layer from the embedding's output to `[B, 1]`.

    Input shape: dict {field name: int [B]}. Output shape: `[B, 1]`.

    Example:
        >>> from keras_dimgrow import DimGrowEmbedding, Field
        >>> embedding = DimGrowEmbedding([Field(name="city", vocabulary_size=50)], adapter="per_field", adapter_width=8)
        >>> RankingModel(embedding, FM())({"city": keras.ops.arange(5)}).shape
        TensorShape([5, 1])
    """

    def __init__(self, embedding: keras.layers.Layer, backbone: keras.layers.Layer, **kwargs):
        # Without autocast: weights of values are cast once, by the embedding, after they were combined.
        super().__init__(**({"autocast": False} | kwargs))
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
        layers = {key: keras.saving.deserialize_keras_object(config[key]) for key in ("embedding", "backbone")}
        return cls(**(config | layers))


def build_embedding(plan: EmbeddingPlan, config: ModelConfig, seed: int) -> keras.layers.Layer:
    """The embedding layer of a plan, its fields whole, in chunks or both, with the adapter of the configured backbone.

    Args:
        plan: what `search` found.
        config: the backbone and its sizes.
        seed: seed of initial values.

    Returns:
        A `PlannedEmbedding`, `ChunkedEmbedding` or `PartlyChunkedEmbedding`; one with chunks is built.

    Example:
        >>> from keras_dimgrow import ChunkConfig
        >>> plan = EmbeddingPlan.uniform([Field(name="city", vocabulary_size=50)], 4)
        >>> type(build_embedding(plan.in_chunks(ChunkConfig(pruning_ratio=0.5)), ModelConfig(), seed=0)).__name__
        'ChunkedEmbedding'
    """
    sizes = config.adapter_width, config.adapter
    if plan.chunks is None:
        layer = PlannedEmbedding(plan, *sizes, seed=seed, name="embedding")
        layer.place(config.max_gpu_table_bytes)
        return layer
    shared = [attribute.name for attribute in dataclasses.fields(FieldInput)]
    fields = [
        Field(**{key: getattr(field, key) for key in shared}, max_dim=field.dimension) for field in plan.chunked_fields
    ]
    chunked = ChunkedEmbedding(
        fields, plan.chunks, *sizes, seed=seed, name="chunked" if plan.whole_fields else "embedding"
    )
    starts = {field.name: field.start_dimension for field in plan.chunked_fields}
    chunked.build(None)
    if None not in starts.values():
        chunked.start_with(starts)  # type: ignore[arg-type]
    if not plan.whole_fields:
        return chunked
    whole = PlannedEmbedding(EmbeddingPlan(plan.whole_fields), *sizes, seed=seed, name="whole")
    whole.place(config.max_gpu_table_bytes)
    return PartlyChunkedEmbedding(whole, chunked, [field.name for field in plan.kept_fields], name="embedding")


def build_model(embedding: keras.layers.Layer, config: ModelConfig, seed: int) -> RankingModel:
    """A built model of the configured backbone over `embedding`.

    Args:
        embedding: a `DimGrowEmbedding` or `PlannedEmbedding` with `adapter=config.adapter`.
        config: the backbone and its sizes.
        seed: seed of the backbone's initial values.

    Raises:
        ValueError: if the embedding's adapter is not the one that the backbone takes.

    Example:
        >>> from keras_dimgrow import DimGrowEmbedding, Field
        >>> config = ModelConfig(backbone="dcn")
        >>> embedding = DimGrowEmbedding([Field(name="city", vocabulary_size=50)], adapter=config.adapter)
        >>> build_model(embedding, config, seed=0)({"city": keras.ops.arange(5)}).shape
        TensorShape([5, 1])
    """
    if embedding.adapter != config.adapter:
        raise ValueError(
            f"build_model: backbone {config.backbone!r} takes adapter={config.adapter!r}; received embedding "
            f"{embedding.name!r} with adapter={embedding.adapter!r}. "
            f"Create the {type(embedding).__name__} with adapter={config.adapter!r} (ModelConfig.adapter)."
        )
    model = RankingModel(embedding, config.make_backbone(seed))
    model.build()
    return model
