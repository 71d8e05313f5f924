"""TransformGraph: an export holds the columns and vocabularies that its model needs, and no others."""

import os

import numpy as np
import pytest
import tensorflow as tf

from serving.check import check_saved_model, predict_rows
from serving.export import export_saved_model
from serving.reference import compute_reference
from serving.session import SessionModel
from serving.transform_graph import TransformGraph
from tests.serving.conftest import NUMERIC_COLUMNS, RAW_FEATURE_SPEC, ROWS, build_model, serialize

KEPT = ["income", "work-class"]


@pytest.fixture(scope="module")
def kept_only(exported, tmp_path_factory):
    """An export of a model with two of the five fields, and its probabilities of ROWS by Keras."""
    directory = str(tmp_path_factory.mktemp("kept") / "model")
    model = build_model(KEPT)
    examples = [serialize(row) for row in ROWS]
    reference = compute_reference(model, exported.transform_layer, RAW_FEATURE_SPEC, KEPT, examples)
    graph = TransformGraph(exported.transform_directory, KEPT)
    assert graph.columns == ("income", "work-class")
    export_saved_model(
        model, graph, RAW_FEATURE_SPEC, KEPT, directory, numeric_columns=NUMERIC_COLUMNS, reference=reference
    )
    return directory, reference.outputs[:, 0]


def test_only_the_vocabularies_of_kept_fields_are_exported(exported, kept_only):
    directory, _ = kept_only
    all_names = set(os.listdir(os.path.join(exported.directory, "assets")))
    kept_names = set(os.listdir(os.path.join(directory, "assets")))
    assert (len(all_names), len(kept_names)) == (5, 2)


def test_removed_fields_are_accepted_and_ignored(kept_only):
    directory, expected = kept_only
    np.testing.assert_allclose(predict_rows(directory, ROWS), expected, atol=1e-5)
    without = [{name: row[name] for name in KEPT if name in row} for row in ROWS]
    np.testing.assert_allclose(predict_rows(directory, without), expected, atol=1e-5)
    of_another_type = tf.train.Example.FromString(serialize(without[0]))
    of_another_type.features.feature["age"].bytes_list.value.append(b"old")
    with SessionModel(directory) as model:
        outputs = model.run("regress", {"inputs": np.array([of_another_type.SerializeToString()], object)})["outputs"]
        assert outputs[0, 0] == pytest.approx(expected[0], abs=1e-5)
        # A removed column counts for the number of rows.
        assert model.run("predict", {"age": np.ones(3, np.float32)})["outputs"].shape == (3, 1)


def test_the_check_passes_with_fewer_columns(kept_only):
    assert [result.problems for result in check_saved_model(kept_only[0], tools=[])] == [()] * 5


def test_features_of_columns_that_nobody_sends_are_rejected(exported, tmp_path):
    spec = {name: RAW_FEATURE_SPEC[name] for name in RAW_FEATURE_SPEC if name != "income"}
    graph = TransformGraph(exported.transform_directory, KEPT)
    with pytest.raises(ValueError, match=r"depend on columns \['income'\], which raw_feature_spec lacks"):
        export_saved_model(build_model(KEPT), graph, spec, KEPT, tmp_path / "model")
    assert os.listdir(tmp_path) == []


def test_features_and_directories_that_are_not_there_are_named(exported):
    with pytest.raises(ValueError, match=r"no feature \['nothing'\]; it gives \['Region code', 'age', "):
        TransformGraph(exported.transform_directory, ["age", "nothing"])
    with pytest.raises(ValueError, match="it is no Transform graph"):
        TransformGraph(exported.directory, ["age"])
