"""grow_vocabulary: a trained model with rows for values that it has never seen; known values keep their vectors."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence

import keras
import numpy as np
import tensorflow as tf

from keras_dimgrow.clones import clone_with
from keras_dimgrow.fields import FieldInput
from keras_dimgrow.layers import DimGrowEmbedding, GrowableEmbedding, PlannedEmbedding

Vocabulary = int | Sequence[int] | np.ndarray

_KINDS = (DimGrowEmbedding, GrowableEmbedding, PlannedEmbedding, keras.layers.Embedding)
_REFUSAL = (
    "grow_vocabulary takes a RankingModel, functional or sequential model with a layer that embeds ids; received {model}. In a "
    "model of your own, put grow_layer(embedding, vocabularies) in the embedding's place."
)


def grow_vocabulary(model: keras.Model, vocabularies: Mapping[str, Vocabulary]) -> keras.Model:
    """A model like `model`, not compiled, with the tables of larger (or other) vocabularies.

    Ids that were there keep their vectors, to the bit; new ones get rows as a fresh layer has them. All other weights are
    copied, and `model` is left as it is. To grow a `GrowableEmbedding` while it trains, see its `add_rows`.

    Args:
        model: a `RankingModel`, functional or sequential model, also nested, with a `PlannedEmbedding`, `GrowableEmbedding`,
            `DimGrowEmbedding` or `keras.layers.Embedding`.
        vocabularies: by the name of the field (of a `keras.layers.Embedding`: of the layer) either the new vocabulary size, ids
            that are there staying as they are; or, for each new id, the old id whose vector it takes over, -1 for none. Of
            fields that share a table one is enough. Vocabularies that are not named stay.

    Raises:
        ValueError: for another kind of model, an unknown name, a smaller size, or an old id that is none.

    Example:
        >>> table = keras.layers.Embedding(3, 4, name="city")
        >>> model = keras.Sequential([keras.Input((), dtype="int32"), table])
        >>> grown = grow_vocabulary(model, {"city": 5}).layers[0]
        >>> tuple(grown.embeddings.shape), bool(np.all(grown.embeddings[:3] == table.embeddings))
        ((5, 4), True)
    """
    known: set[str] = set()

    def grow(layer):
        names = _names(layer)
        known.update(names)
        return grow_layer(layer, {name: vocabularies[name] for name in names if name in vocabularies})

    grown = clone_with(model, _KINDS, grow, _REFUSAL)
    _require_known(vocabularies, known, f"The model {model.name!r}")
    return grown


def grow_layer(layer: keras.layers.Layer, vocabularies: Mapping[str, Vocabulary]) -> keras.layers.Layer:
    """What `grow_vocabulary` puts in the place of one layer.

    Raises:
        ValueError: see `grow_vocabulary`; also if `layer` has no values yet.
    """
    if type(layer) not in _KINDS:  # a subclass may compute anything
        raise ValueError(_REFUSAL.format(model=f"{layer.name!r}, a {type(layer).__name__}"))
    if not layer.built:
        raise ValueError(f"The layer {layer.name!r} has no values to keep yet. Train its model, or load it, first.")
    _require_known(vocabularies, _names(layer), f"The layer {layer.name!r}")
    if isinstance(layer, keras.layers.Embedding):
        return _grow_keras_embedding(layer, vocabularies)
    fields = layer.plan.fields if isinstance(layer, PlannedEmbedding) else layer.fields
    origins = _origins_of_tables(fields, vocabularies)
    resized = [dataclasses.replace(field, vocabulary_size=len(origins[field.table_key])) for field in fields]
    config = layer.get_config()
    if isinstance(layer, PlannedEmbedding):
        grown = type(layer).from_config(
            config | {"plan": dataclasses.replace(layer.plan, fields=tuple(resized)).to_dict()}
        )
        grown.build(None)
        tables = layer.tables_by_field()
        for seed, first in enumerate(layer.plan.tables, layer.seed):
            if first.dimension:
                table = _take(tables[first.name], origins[first.table_key], _fresh_rows(layer, seed, first))
                tables |= {field.name: table for field in layer.fields if field.table_key == first.table_key}
        grown.assign_by_field(tables, layer.kernels_by_field())
        return grown
    grown = type(layer).from_config(config | {"fields": [dataclasses.asdict(field) for field in resized]})
    grown.build(None)
    for new, variable in zip(grown.variables, layer.variables, strict=True):
        if all(variable is not table for table in layer.tables):
            new.assign(variable.value)
    for index, (table, owner) in enumerate(zip(layer.tables, layer.searched_tables, strict=True)):
        rows = _take(table.numpy(), origins[owner.table_key], _fresh_rows(layer, layer.seed + index, owner))
        grown.tables[index].assign(rows)
    return grown


def _fresh_rows(layer, seed: int, owner: FieldInput) -> Callable[[tuple[int, int]], np.ndarray]:
    """What draws rows as the layer's first ones were drawn; by the old size, so that no later growth repeats them."""
    return lambda shape: tf.random.stateless_normal(shape, [seed, -owner.vocabulary_size], stddev=layer.stddev).numpy()


def _names(layer) -> list[str]:
    if isinstance(layer, keras.layers.Embedding):
        return [layer.name]
    return [field.name for field in (layer.plan.fields if isinstance(layer, PlannedEmbedding) else layer.fields)]


def _grow_keras_embedding(layer: keras.layers.Embedding, vocabularies) -> keras.layers.Embedding:
    origins = _origins(layer.name, layer.input_dim, vocabularies.get(layer.name, layer.input_dim))
    grown = type(layer).from_config(layer.get_config() | {"input_dim": len(origins)})
    grown.build(None)
    fresh = np.asarray(grown.embeddings)[origins < 0]
    grown.embeddings.assign(_take(np.asarray(layer.embeddings), origins, lambda shape: fresh))
    return grown


def _origins_of_tables(fields, vocabularies: Mapping[str, Vocabulary]) -> dict[tuple[str, str], np.ndarray]:
    """Table key -> for each new id, the old id."""
    named: dict[tuple[str, str], tuple[str, np.ndarray]] = {}
    for field in fields:
        if field.name not in vocabularies:
            continue
        origins = _origins(field.name, field.vocabulary_size, vocabularies[field.name])
        first, before = named.setdefault(field.table_key, (field.name, origins))
        if not np.array_equal(before, origins):
            raise ValueError(
                f"Fields {first!r} and {field.name!r} share table {field.table!r}; received different vocabularies for them. "
                "Name one of them, or give both the same."
            )
    return {
        field.table_key: named[field.table_key][1] if field.table_key in named else np.arange(field.vocabulary_size)
        for field in fields
    }


def _origins(name: str, size: int, vocabulary: Vocabulary) -> np.ndarray:
    """For each new id the old id whose vector it takes over, -1 for none."""
    if isinstance(vocabulary, int | np.integer):
        if vocabulary < size:
            raise ValueError(
                f"{name!r}: its vocabulary has {size} ids; received the smaller size {vocabulary}. Which ids go? Give, for "
                "each new id, the old one."
            )
        return np.concatenate([np.arange(size), np.full(vocabulary - size, -1)])
    origins = np.asarray(vocabulary)
    if origins.ndim != 1 or not np.issubdtype(origins.dtype, np.integer):
        raise ValueError(
            f"{name!r}: expected a size, or one old id (-1 for none) for each new id; received {vocabulary!r}."
        )
    wrong = np.flatnonzero((origins < -1) | (origins >= size))
    if len(wrong):
        raise ValueError(
            f"{name!r}: old ids are 0 .. {size - 1}, or -1 for none; received {origins[wrong[0]]} for the new id {wrong[0]}."
        )
    return origins


def _take(old: np.ndarray, origins: np.ndarray, draw: Callable[[tuple[int, int]], np.ndarray]) -> np.ndarray:
    """The rows of `old` that `origins` names, and drawn ones where it names none."""
    taken = old[np.maximum(origins, 0)]
    is_new = origins < 0
    taken[is_new] = draw((int(is_new.sum()), old.shape[1]))
    return taken


def _require_known(vocabularies: Mapping[str, Vocabulary], known, owner: str) -> None:
    unknown = sorted(set(vocabularies) - set(known))
    if unknown:
        raise ValueError(f"{owner} embeds {sorted(known)}; received vocabularies of {unknown}. Correct the names.")
