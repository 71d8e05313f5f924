"""PartlyChunkedEmbedding: a plan whose large tables are in chunks, its small ones whole."""

from collections.abc import Mapping, Sequence

import keras
import tensorflow as tf

from keras_dimgrow import adapters
from keras_dimgrow.fields import FieldInput
from keras_dimgrow.layers.chunked_embedding import ChunkedEmbedding
from keras_dimgrow.layers.inputs import batch_size_of
from keras_dimgrow.layers.planned_embedding import PlannedEmbedding


@keras.saving.register_keras_serializable("keras_dimgrow")
class PartlyChunkedEmbedding(keras.layers.Layer):
    """Fields whole and fields in chunks as one layer; `build_embedding` makes it of a plan.

    A joint adapter sums over fields: its output is the sum of both layers' outputs.

    Args:
        whole: a `PlannedEmbedding`, of the fields with the same dimension in every row.
        chunked: a `ChunkedEmbedding` with the same adapter and width, of the others.
        names: the names of all these fields in the order of the output per field.

    Input shape: dict {field name: int [B]}, [B, L] for a field with a combiner.
    Output shape: `[B, adapter_width]`, or `[B, fields, adapter_width]` per field.

    Raises:
        ValueError: for inputs that are no dict; for ids that do not fit (see `Field`).
    """

    def __init__(self, whole: PlannedEmbedding, chunked: ChunkedEmbedding, names: Sequence[str], **kwargs):
        super().__init__(**({"autocast": False} | kwargs))
        self.whole = whole
        self.chunked = chunked
        self.names = tuple(names)
        self.adapter, self.adapter_width = whole.adapter, whole.adapter_width
        # Sizes of what is looked up and updated depend on the data.
        self.supports_jit = False

    @property
    def fields(self) -> tuple[FieldInput, ...]:
        """The fields that the layer embeds."""
        by_name: dict[str, FieldInput] = {field.name: field for field in (*self.whole.fields, *self.chunked.fields)}
        return tuple(by_name[name] for name in self.names)

    def build(self, input_shape):
        for layer in (self.whole, self.chunked):
            if not layer.built:
                layer.build(input_shape)

    def call(self, inputs, training=None):
        if not isinstance(inputs, Mapping):
            raise ValueError(
                f"{self.name}: inputs must be a dict {{field name: ids}}; received a {type(inputs).__name__}. Name the columns."
            )
        outputs = [self.whole(inputs, training=training), self.chunked(inputs, training=training)]
        if self.adapter == "joint":
            return tf.add_n(outputs)
        order = [field.name for layer in (self.whole, self.chunked) for field in layer.fields]
        return tf.gather(tf.concat(outputs, axis=1), [order.index(name) for name in self.names], axis=1)

    def summary(self) -> dict[str, int]:
        """Of the part in chunks: see `ChunkedEmbedding.summary`."""
        return self.chunked.summary()

    def mean_dimensions(self) -> dict[str, float]:
        """Field name -> dimensions that a row has on average."""
        dimensions = {
            field.name: float(field.dimension) for field in self.whole.fields
        } | self.chunked.mean_dimensions()
        return {name: dimensions[name] for name in self.names}

    def compute_output_shape(self, input_shape):
        return adapters.adapted_shape(batch_size_of(input_shape), self.adapter, len(self.names), self.adapter_width)

    def get_config(self):
        layers = {key: keras.saving.serialize_keras_object(getattr(self, key)) for key in ("whole", "chunked")}
        return super().get_config() | layers | {"names": list(self.names)}

    @classmethod
    def from_config(cls, config):
        layers = {key: keras.saving.deserialize_keras_object(config[key]) for key in ("whole", "chunked")}
        return cls(**(config | layers))
