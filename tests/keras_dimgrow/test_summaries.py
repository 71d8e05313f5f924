"""SummaryWriter, by itself and as the callback's log_dir: what TensorBoard reads, each check once."""

import collections
import importlib.util
import logging

import keras
import pytest
import tensorflow as tf

from keras_dimgrow import DimensionSearch, DimGrowEmbedding, GrowthConfig, LazyAdam
from keras_dimgrow.summaries import SummaryWriter

needs_tensorboard = pytest.mark.skipif(importlib.util.find_spec("tensorboard") is None, reason="needs tensorboard")


def record_at(step: int, **changes) -> dict:
    return {
        "step": step,
        "loss": 0.5,
        "validation_loss": None,
        "validation_auc": None,
        "dimensions": {"city": 2, "user": 0},
        "total_dimensions": 2,
        "gates": {"city": [0.25, 0.75], "user": []},
        "parameters": 20,
        "table_bytes": 240,
    } | changes


def values_in(log_dir) -> dict[str, list[tuple[int, float]]]:
    """Per tag, steps and values of all event files: a scalar's value, a histogram's count."""
    values = collections.defaultdict(list)
    for path in sorted(log_dir.glob("events.out.tfevents.*")):
        for serialized in tf.data.TFRecordDataset(str(path)).as_numpy_iterator():
            event = tf.compat.v1.Event.FromString(serialized)
            for value in event.summary.value:
                tensor = tf.make_ndarray(value.tensor)
                values[value.tag].append((event.step, float(tensor[:, 2].sum() if tensor.ndim else tensor)))
    return dict(values)


@needs_tensorboard
def test_a_record_is_written_as_scalars_and_histograms(tmp_path):
    SummaryWriter(str(tmp_path)).write(record_at(50, validation_auc=0.75))

    assert values_in(tmp_path) == {
        "loss": [(50, 0.5)],
        "validation_auc": [(50, 0.75)],
        "parameters": [(50, 20)],
        "table_bytes": [(50, 240)],
        "dimensions/city": [(50, 2)],
        "dimensions/user": [(50, 0)],
        "gates/city": [(50, 2)],
        "gates/user": [(50, 0)],
        "total_dimensions": [(50, 2)],
    }


@needs_tensorboard
def test_gains_are_histograms_and_what_a_method_does_not_record_is_left_out(tmp_path):
    record = {
        "step": 50,
        "dimensions": {"city": 2},
        "gains": {"city": [0.25, 0.75]},
        "parameters": 20,
        "table_bytes": 240,
    }

    SummaryWriter(str(tmp_path)).write(record)
    SummaryWriter(str(tmp_path)).write(record)

    assert values_in(tmp_path) == {
        "parameters": [(50, 20)],
        "table_bytes": [(50, 240)],
        "dimensions/city": [(50, 2)],
        "gains/city": [(50, 2)],
    }


@needs_tensorboard
def test_a_step_is_written_once_by_all_writers_of_a_directory(tmp_path, caplog):
    first = SummaryWriter(str(tmp_path))
    for step in (5, 10):
        first.write(record_at(step))
    assert not caplog.records

    with caplog.at_level(logging.WARNING):
        second = SummaryWriter(str(tmp_path))
    for step in (10, 15, 15):
        second.write(record_at(step))

    assert [step for step, _ in values_in(tmp_path)["loss"]] == [5, 10, 15]
    assert "holds checks up to step 10; they are not written again" in caplog.text


@needs_tensorboard
def test_a_file_cut_off_amid_a_record_is_read_up_to_there(tmp_path):
    writer = SummaryWriter(str(tmp_path))
    for step in (5, 10):
        writer.write(record_at(step))
    (path,) = tmp_path.glob("events.*")
    path.write_bytes(path.read_bytes()[:-7])

    SummaryWriter(str(tmp_path)).write(record_at(10, loss=0.25))

    path.unlink()  # its end cannot be read
    assert values_in(tmp_path)["loss"] == [(10, 0.25)]


def test_without_tensorboard_the_error_names_the_extra(monkeypatch, tmp_path):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)

    with pytest.raises(
        ImportError, match=r"not installed. Install the extra: pip install keras-dimgrow\[tensorboard\]"
    ):
        SummaryWriter(str(tmp_path))


@needs_tensorboard
def test_a_fit_writes_its_checks_and_one_that_was_killed_writes_none_twice(planted, tmp_path):
    class KilledError(Exception):
        """Stands for the end of the process."""

    def kill(record):
        if record["step"] == 10:
            raise KilledError

    lively = GrowthConfig(grow_threshold=0.502, shrink_threshold=0.495)

    def fit(**options):
        layer = DimGrowEmbedding(planted.fields, 8, seed=0)
        inputs = {field.name: keras.Input((), dtype="int32", name=field.name) for field in planted.fields}
        model = keras.Model(inputs, keras.layers.Dense(1, "sigmoid")(layer(inputs)))
        model.compile(LazyAdam(2e-2), "binary_crossentropy")
        growth = DimensionSearch(layer, lively, check_every=5, log_dir=str(tmp_path / "logs"), **options)
        backup = keras.callbacks.BackupAndRestore(tmp_path / "backup")
        model.fit(planted.batches(is_shuffled=False), epochs=6, callbacks=[growth, backup], verbose=0)
        return growth

    with pytest.raises(KilledError):
        fit(on_check=kill)
    records = fit().trajectory

    values = values_in(tmp_path / "logs")
    assert [step for step, _ in values["total_dimensions"]] == [5, 10, 15, 20]
    assert [record["step"] for record in records] == [10, 15, 20]  # gone on from step 8
    for record in records[1:]:
        for name, dimension in record["dimensions"].items():
            assert (record["step"], dimension) in values[f"dimensions/{name}"]
            assert (record["step"], len(record["gates"][name])) in values[f"gates/{name}"]
