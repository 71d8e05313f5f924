"""Every public layer keeps to the contract of contracts.py."""

import dataclasses
import functools

import keras
import numpy as np
import pytest

import keras_dimgrow
from keras_dimgrow import (
    ChunkConfig,
    ChunkedEmbedding,
    DimGrowEmbedding,
    EmbeddingPlan,
    Field,
    GrowableEmbedding,
    ModelConfig,
    PlannedEmbedding,
    ShuffleGate,
)
from keras_dimgrow.models import BACKBONES
from tests.keras_dimgrow import contracts

B, F, WIDTH = 8, 3, 4
RNG = np.random.default_rng(0)
PLAIN = [Field(name=name, vocabulary_size=size) for name, size in zip("abc", (5, 9, 4), strict=True)]
ALL_KINDS = [
    *PLAIN,
    Field(name="history", vocabulary_size=5, combiner="sqrtn", missing_id=-1, weights="scores", table="items"),
    Field(name="item", vocabulary_size=5, table="items"),
    Field(name="absent", vocabulary_size=6, missing_id=0),
]
IDS = {field.name: RNG.integers(0, field.vocabulary_size, B).astype("int32") for field in PLAIN}
IDS_OF_ALL_KINDS = IDS | {
    "history": RNG.integers(-1, 5, (B, 3)).astype("int32"),
    "scores": RNG.uniform(0.5, 2, (B, 3)).astype("float32"),
    "item": RNG.integers(0, 5, B).astype("int32"),
    "absent": RNG.integers(0, 6, B).astype("int32"),
}
PLAN = EmbeddingPlan.from_dimensions(ALL_KINDS, {"a": 2, "b": 0, "c": 1, "history": 2, "item": 2, "absent": 1})


def backbone(name: str, **options):
    config = ModelConfig(backbone=name, adapter_width=WIDTH, hidden_units=(6, 5)).make_backbone(3).get_config()
    return BACKBONES[name].from_config(config | options)


def vectors(name: str) -> np.ndarray:
    shape = (B, WIDTH) if BACKBONES[name].adapter == "joint" else (B, F, WIDTH)
    return np.random.default_rng(1).normal(size=shape).astype("float32")


OPTIONS = {"stddev": 1.0, "seed": 1, "name": "layer"}
LAYERS = {
    **{
        f"DimGrowEmbedding-{adapter}": (
            functools.partial(DimGrowEmbedding, ALL_KINDS, WIDTH, adapter, **OPTIONS),
            IDS_OF_ALL_KINDS,
        )
        for adapter in ("joint", "per_field")
    },
    **{
        f"PlannedEmbedding-{adapter}": (
            functools.partial(PlannedEmbedding, PLAN, WIDTH, adapter, **OPTIONS),
            IDS_OF_ALL_KINDS,
        )
        for adapter in ("joint", "per_field")
    },
    **{
        f"GrowableEmbedding-{adapter}": (
            functools.partial(GrowableEmbedding, ALL_KINDS, (2, 4, 1, 3, 1), WIDTH, adapter, **OPTIONS),
            IDS_OF_ALL_KINDS,
        )
        for adapter in ("joint", "per_field")
    },
    **{
        f"ChunkedEmbedding-{adapter}": (
            functools.partial(
                ChunkedEmbedding,
                [dataclasses.replace(field, max_dim=4 if field.name in "ab" else 8) for field in ALL_KINDS],
                ChunkConfig(pruning_ratio=0.25),
                WIDTH,
                adapter,
                **OPTIONS,
            ),
            IDS_OF_ALL_KINDS,
        )
        for adapter in ("joint", "per_field")
    },
    "PlannedEmbedding-keep_removed": (
        functools.partial(PlannedEmbedding, PLAN, WIDTH, "per_field", keep_removed=True, **OPTIONS),
        IDS_OF_ALL_KINDS,
    ),
    "ShuffleGate": (functools.partial(ShuffleGate, seed=1), vectors("dcn")),
    "ShuffleGate-field_sizes": (functools.partial(ShuffleGate, seed=1, field_sizes=[1, 3]), vectors("dcn")),
    **{cls.__name__: (functools.partial(backbone, name), vectors(name)) for name, cls in BACKBONES.items()},
}
PROBABILITIES = {cls.__name__ for cls in BACKBONES.values()}  # float32 whatever the policy


@pytest.fixture(params=LAYERS)
def case(request):
    """How the layer is made, its inputs, and the dtype of its outputs if that is not the policy's."""
    return *LAYERS[request.param], "float32" if request.param in PROBABILITIES else None


def test_every_public_layer_is_under_contract():
    public = [getattr(keras_dimgrow, name) for name in keras_dimgrow.__all__]
    layers = {cls.__name__ for cls in public if isinstance(cls, type) and issubclass(cls, keras.layers.Layer)}

    assert layers - {"RankingModel"} == {name.split("-")[0] for name in LAYERS}


def test_shape_and_spec(case):
    contracts.check_shape_and_spec(*case)


def test_build_makes_all_variables(case):
    contracts.check_build_makes_all_variables(*case[:2])


def test_dtype_policies(case):
    contracts.check_dtype_policies(*case)


def test_config(case):
    contracts.check_config(*case[:2])


def test_file(case, tmp_path):
    contracts.check_file(*case[:2], str(tmp_path / "model.keras"))


@pytest.mark.filterwarnings("ignore:Layer .* does not support masking:UserWarning")
def test_masks(case):
    contracts.check_masks(*case[:2])


def test_gradients(case):
    contracts.check_gradients(*case[:2])


def test_tracing(case):
    contracts.check_tracing(*case[:2])
