"""Models like other models, with some of their layers replaced."""

from collections.abc import Callable

import keras

from keras_dimgrow.models import RankingModel

Layers = tuple[type[keras.layers.Layer], ...]


def clone_with(
    model: keras.Model, kinds: Layers, replace: Callable[[keras.layers.Layer], keras.layers.Layer], refusal: str
) -> keras.Model:
    """A model like `model`, not compiled, with `replace(layer)` in the place of each layer that is one of `kinds`.

    All other weights are copied; `model` is left as it is. Takes a `RankingModel`, a functional or a sequential model, also
    nested ones.

    Raises:
        ValueError: for another kind of model, or one without such a layer. `refusal` says so; "{model}" in it is which.
    """
    if isinstance(model, RankingModel) and isinstance(model.embedding, kinds):
        backbone = type(model.backbone).from_config(model.backbone.get_config())
        copy = RankingModel(replace(model.embedding), backbone, name=model.name)
        copy.build()
        backbone.set_weights(model.backbone.get_weights())
        return copy
    if not _is_cloneable(model) or not _has(model, kinds):
        raise ValueError(refusal.format(model=f"{type(model).__name__} {model.name!r}"))

    def clone(layer):
        if isinstance(layer, kinds):
            return replace(layer)
        if _has(layer, kinds):
            return clone_with(layer, kinds, replace, refusal)
        return type(layer).from_config(layer.get_config())

    is_compiled, model.compiled = model.compiled, False  # else the clone would get an optimizer with slots, too
    try:
        copy = keras.models.clone_model(model, clone_function=clone)
    finally:
        model.compiled = is_compiled
    for old, new in zip(model.layers, copy.layers, strict=True):
        if not _has(old, kinds):
            new.set_weights(old.get_weights())
    return copy


def _is_cloneable(model: keras.Model) -> bool:
    return isinstance(model, keras.Sequential) or hasattr(model, "operations")


def _has(layer, kinds: Layers) -> bool:
    """Whether `layer` is, or is a model with, one of `kinds`."""
    if isinstance(layer, keras.Model):
        return any(_has(inner, kinds) for inner in layer.layers)
    return isinstance(layer, kinds)
