"""The examples in docstrings run and print what they say."""

import doctest
import importlib
import pkgutil

import pytest

import keras_dimgrow

# Public names without an example: their docstrings say what they are, guides and tests how they are used.
NAMES_WITH_EXAMPLE = (
    *("DCN", "DLRM", "FM", "IPNN", "NFM", "AutoInt", "DeepFM", "WideDeep"),
    *("DimGrowEmbedding", "GrowableEmbedding", "PlannedEmbedding", "ShuffleGate", "RankingModel", "build_model"),
    *("Field", "EmbeddingPlan", "GateConfig", "GrowthConfig", "DimGrowConfig", "DimGrowPaperConfig", "TrainingConfig"),
    "ModelConfig",
    *("evaluate", "retrain", "search", "transfer_layer", "transfer_model", "with_storage", "compare_storage"),
)
OPTIONAL = {"keras_dimgrow.report": ("jinja2", "matplotlib"), "keras_dimgrow.tfrs": ("tensorflow_recommenders",)}
MODULES = [
    module.name for module in pkgutil.walk_packages(keras_dimgrow.__path__, "keras_dimgrow.", onerror=lambda name: None)
]


@pytest.mark.parametrize("name", ["keras_dimgrow", *MODULES])
def test_the_examples_of_a_module_run(name):
    for prefix, extras in OPTIONAL.items():
        if name.startswith(prefix):
            for extra in extras:
                if importlib.util.find_spec(extra) is None:
                    pytest.skip(f"{extra} is not installed")

    result = doctest.testmod(importlib.import_module(name), optionflags=doctest.ELLIPSIS)

    assert result.failed == 0


@pytest.mark.parametrize("name", NAMES_WITH_EXAMPLE)
def test_what_is_used_first_has_an_example(name):
    assert ">>> " in getattr(keras_dimgrow, name).__doc__
