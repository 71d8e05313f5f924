"""What the library promises: its names, and what importing it does not do."""

import importlib
import inspect
import json
import subprocess
import sys

import keras
import pytest

import keras_dimgrow

NAMES = [
    "DCN",
    "DLRM",
    "FM",
    "IPNN",
    "METHODS",
    "NFM",
    "AutoInt",
    "ChunkConfig",
    "ChunkedEmbedding",
    "DeepFM",
    "DimGrowConfig",
    "DimGrowEmbedding",
    "DimGrowPaperConfig",
    "DimensionSearch",
    "EmbeddingPlan",
    "Evaluation",
    "Field",
    "GateConfig",
    "GrowableAdam",
    "GrowableEmbedding",
    "GrowableSlots",
    "GrowableVariable",
    "GrowthConfig",
    "LazyAdam",
    "ModelConfig",
    "PlannedEmbedding",
    "PlannedField",
    "RankingModel",
    "SearchResult",
    "ShuffleGate",
    "StorageComparison",
    "TrainingConfig",
    "TrainingResult",
    "WideDeep",
    "build_embedding",
    "build_model",
    "choose_batch_size",
    "compare_storage",
    "evaluate",
    "grow_vocabulary",
    "growable",
    "retrain",
    "search",
    "transfer_layer",
    "transfer_model",
    "with_storage",
]
HEAVY = {"apache_beam", "jinja2", "matplotlib", "pandas", "tensorflow_transform", "tfx"} | {
    "components",
    "pipeline",
    "serving",
}


def test_these_names_are_public():
    assert keras_dimgrow.__all__ == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_every_public_name_has_a_docstring(name):
    assert inspect.getdoc(getattr(keras_dimgrow, name))


def test_importing_it_prints_nothing_and_adds_no_heavy_package_to_those_of_keras_and_tensorflow():
    code = (
        "import sys, json, keras, tensorflow; before = set(sys.modules); import keras_dimgrow; "
        "print(json.dumps(sorted({name.split('.')[0] for name in set(sys.modules) - before})))"
    )

    finished = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)

    assert finished.returncode == 0, finished.stderr
    [line] = finished.stdout.splitlines()
    added = set(json.loads(line))
    assert "keras_dimgrow" in added
    assert not added & HEAVY


def test_another_backend_than_tensorflow_is_refused(monkeypatch):
    monkeypatch.setattr(keras.backend, "backend", lambda: "jax")

    with pytest.raises(ImportError, match=r"Keras runs on 'jax'. Set KERAS_BACKEND=tensorflow before Keras"):
        importlib.reload(keras_dimgrow)
