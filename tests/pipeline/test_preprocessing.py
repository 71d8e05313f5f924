import os
import tempfile

import apache_beam as beam
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_transform as tft
import tensorflow_transform.beam as tft_beam
from tensorflow_transform.tf_metadata import dataset_metadata, schema_utils

from pipeline.beam_options import make_beam_args
from pipeline.preprocessing import preprocessing_fn, vocabulary_files
from pipeline.vocabularies import MISSING

FEATURES = {
    "categorical": ["city", "code"],
    "integer": ["clicks"],
    "numeric": ["price"],
    "min_frequency": 2,
    "num_quantiles": 2,
}
SPEC = {
    "city": tf.io.VarLenFeature(tf.string),
    "code": tf.io.VarLenFeature(tf.int64),
    "clicks": tf.io.VarLenFeature(tf.int64),
    "price": tf.io.VarLenFeature(tf.float32),
    "label": tf.io.VarLenFeature(tf.int64),
}
NAMES = ("000_city", "001_code", "002_clicks", "003_price")
ROWS = [
    {"city": ["Rome"], "code": [7], "clicks": [0], "price": [1.0], "label": [1]},
    {"city": ["Rome"], "code": [7], "clicks": [2], "price": [2.0], "label": [0]},
    {"city": ["Oslo"], "code": [8], "clicks": [3], "price": [3.0], "label": [0]},
    {"city": [" Oslo "], "code": [8], "clicks": [100], "price": [4.0], "label": [1]},
    {"city": ["once"], "code": [9], "clicks": [0], "price": [float("nan")], "label": [0]},
    {"city": [""], "code": [], "clicks": [2], "price": [], "label": [1]},
    {"city": [], "code": [], "clicks": [3], "price": [4.0], "label": [1]},
    {"city": [], "code": [], "clicks": [100], "price": [1.0], "label": [1]},
]


@pytest.fixture(scope="module")
def transformed(tmp_path_factory):
    """(transform output, transformed columns of ROWS)."""
    output = analyze(tmp_path_factory.mktemp("transform"), ROWS)
    return output, apply(output, ROWS)


def analyze(directory, rows, earlier=None) -> tft.TFTransformOutput:
    """What the Transform node leaves for `rows`, in `directory`."""
    metadata = dataset_metadata.DatasetMetadata(schema_utils.schema_from_feature_spec(SPEC))
    custom_config = {"label": "label", "features": FEATURES, "earlier_vocabularies": earlier or {}}
    options = beam.options.pipeline_options.PipelineOptions(make_beam_args("local"))
    with tft_beam.Context(temp_dir=tempfile.mkdtemp(dir=directory)), beam.Pipeline(options=options) as pipeline:
        examples = pipeline | beam.Create(rows)
        transform_fn = (examples, metadata) | tft_beam.AnalyzeDataset(lambda x: preprocessing_fn(x, custom_config))
        _ = transform_fn | tft_beam.WriteTransformFn(os.path.join(directory, "graph"))
    return tft.TFTransformOutput(os.path.join(directory, "graph"))


def apply(output, rows):
    layer = output.transform_features_layer()
    columns = {}
    for name, feature in SPEC.items():
        cells = [(i, row[name][0]) for i, row in enumerate(rows) if row.get(name)]
        indices = np.array([[i, 0] for i, _ in cells], np.int64).reshape(-1, 2)
        values = tf.constant([value for _, value in cells], feature.dtype)
        columns[name] = tf.SparseTensor(indices, values, [len(rows), 1])
    return {name: values.numpy().tolist() for name, values in layer(columns).items()}


def size_of(output, name):
    (feature,) = [f for f in output.transformed_metadata.schema.feature if f.name == name]
    return feature.int_domain.max + 1


def test_missing_values_are_id_0_and_rare_or_unknown_ones_the_last_id(transformed):
    output, columns = transformed

    assert size_of(output, "city") == 4  # missing, two cities, unknown
    assert columns["city"][5:] == [0, 0, 0]
    assert columns["city"][4] == 3
    assert apply(output, [{"city": ["Atlantis"]}, {"city": [""]}])["city"] == [3, 0]


def test_equal_values_share_an_id_whatever_the_spaces_around_them(transformed):
    city = transformed[1]["city"]

    assert city[0] == city[1] != city[2] == city[3]
    assert {city[0], city[2]} == {1, 2}


def test_integers_can_be_categories(transformed):
    code = transformed[1]["code"]

    assert code[0] == code[1] != code[2] == code[3]
    assert code[4] == 3
    assert code[5] == 0


def test_counts_fall_into_floor_log_squared_buckets(transformed):
    output, columns = transformed
    names = output.vocabulary_by_name("002_clicks")

    # ln(100)^2 = 21.2, ln(3)^2 = 1.2; 0 and 2 keep buckets of their own: x - 2.
    assert [names[i].decode() for i in columns["clicks"][:4]] == ["-2", "0", "1", "21"]


def test_numbers_fall_into_quantile_buckets_and_nan_is_missing(transformed):
    price = transformed[1]["price"]

    assert price[0] == price[7] != price[3] == price[6]
    assert price[4] == price[5] == 0


def test_vocabularies_begin_with_the_missing_token(transformed):
    for name in NAMES:
        assert transformed[0].vocabulary_by_name(name)[0].decode() == MISSING


def test_the_label_is_passed_through_and_not_needed_for_serving(transformed):
    output, columns = transformed

    assert columns["label"] == [row["label"][0] for row in ROWS]
    layer = output.transform_features_layer()
    city = tf.SparseTensor([[0, 0]], ["Rome"], [1, 1])
    assert layer({"city": city})["city"].numpy().tolist() == columns["city"][:1]


# A later run, on other rows.

DRIFTED = [
    {"city": ["Lima"], "code": [9], "clicks": [0], "price": [1.0], "label": [1]},
    {"city": ["Lima"], "code": [9], "clicks": [5000], "price": [2.0], "label": [0]},
    {"city": ["Bern"], "code": [7], "clicks": [5000], "price": [3.0], "label": [0]},
    {"city": ["Bern"], "code": [7], "clicks": [2], "price": [4.0], "label": [1]},
    {"city": ["Bern"], "code": [7], "clicks": [2], "price": [4.0], "label": [1]},
    {"city": ["Oslo"], "code": [7], "clicks": [0], "price": [4.0], "label": [1]},
    {"city": ["Oslo"], "code": [7], "clicks": [0], "price": [4.0], "label": [1]},
    {"city": ["seldom"], "code": [7], "clicks": [0], "price": [4.0], "label": [1]},
    {"city": ["two\nlines"], "code": [7], "clicks": [0], "price": [4.0], "label": [1]},
    {"city": ["two\nlines"], "code": [7], "clicks": [0], "price": [4.0], "label": [1]},
]


@pytest.fixture(scope="module")
def continued(transformed, tmp_path_factory):
    files = vocabulary_files(FEATURES)
    earlier = {name: transformed[0].vocabulary_file_by_name(files[name]) for name in files if name != "code"}
    return analyze(tmp_path_factory.mktemp("continued"), DRIFTED, earlier)


def test_values_of_an_earlier_run_keep_their_ids_and_new_ones_are_appended(transformed, continued):
    before, now = (output.vocabulary_by_name("000_city") for output in (transformed[0], continued))

    # Rome has disappeared and keeps its id; new values follow by frequency; rare ones and those of two lines have no id.
    assert now == [*before, b"Bern", b"Lima"]
    assert b"Rome" in before
    assert apply(continued, ROWS[:4])["city"] == transformed[1]["city"][:4]
    assert apply(continued, DRIFTED)["city"] == [4, 4, 3, 3, 3, *transformed[1]["city"][2:4], 5, 5, 5]


def test_the_schema_knows_the_size_of_a_vocabulary_that_was_continued(continued):
    assert size_of(continued, "city") == 6  # missing, four cities, unknown
    assert apply(continued, [{"city": ["Atlantis"]}, {"city": [""]}])["city"] == [5, 0]


def test_buckets_of_counts_keep_their_ids_and_new_ones_are_appended(transformed, continued):
    before, now = (output.vocabulary_by_name("002_clicks") for output in (transformed[0], continued))

    assert now == [*before, b"72"]  # ln(5000)^2 = 72.5


def test_a_column_without_an_earlier_vocabulary_gets_one_of_its_own(continued):
    assert continued.vocabulary_by_name("001_code") == [MISSING.encode(), b"7", b"9"]
