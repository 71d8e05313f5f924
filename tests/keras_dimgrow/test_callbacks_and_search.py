"""DimensionSearch and search: one trace, the same plan each time, budgets at every record, and searches that go on."""

import dataclasses
import functools
import json

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_dimgrow import (
    DimensionSearch,
    DimGrowEmbedding,
    DimGrowPaperConfig,
    Field,
    GateConfig,
    GrowthConfig,
    LazyAdam,
    ModelConfig,
    build_model,
    search,
)
from keras_dimgrow.policy import QUIET
from tests.keras_dimgrow.conftest import SEED

SMALL_MODEL = ModelConfig(adapter_width=8, hidden_units=(8,), dropout=0.1)
# Thresholds so near one half that dimensions come and go within 60 steps.
LIVELY = GrowthConfig(
    grow_threshold=0.502, shrink_threshold=0.495, backoff_checks=1, revive_after_checks=2, max_revivals=3
)
SMALL_SEARCH = DimGrowPaperConfig(
    max_steps=60, check_every=5, checkpoint_every=10, learning_rate=2e-2, growth=LIVELY, gate=GateConfig(penalty=3e-3)
)


def run(planted, config=SMALL_SEARCH, *, min_dim=0, is_shuffled=True, **options):
    fields = [dataclasses.replace(field, min_dim=min_dim) for field in planted.fields]
    options = {"model_config": SMALL_MODEL, "seed": 1} | options
    return search(
        fields,
        planted.batches(is_shuffled=is_shuffled),
        planted.batches(512, False),
        method="dimgrow_paper",
        config=config,
        **options,
    )


def replace(config: DimGrowPaperConfig, **changes) -> DimGrowPaperConfig:
    return DimGrowPaperConfig.from_dict(config.to_dict() | changes)


@pytest.fixture(scope="module")
def heard() -> list[dict]:
    """The records that the small search reported."""
    return []


@pytest.fixture(scope="module")
def traces() -> list[bool]:
    """For each call of the layer in the small search's training, whether it was eager."""
    return []


@pytest.fixture(scope="module")
def uninterrupted(planted, heard, traces):
    """The small search, run once for all tests that look at it or compare with it."""
    original = DimGrowEmbedding.call

    @functools.wraps(original)
    def call(self, inputs, training=None):
        if training:
            traces.append(tf.executing_eagerly())
        return original(self, inputs, training=training)

    keras.utils.set_random_seed(SEED)  # which shuffles of tf.data follow
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(DimGrowEmbedding, "call", call)
        return run(planted, on_check=heard.append)


def comparable(trajectory) -> list[dict]:
    """The trajectory without what the clock and the machine say."""
    return [{k: v for k, v in record.items() if k not in ("seconds", "resident_bytes")} for record in trajectory]


def assert_same_search(result, expected):
    assert result.plan == expected.plan
    assert result.has_converged == expected.has_converged
    assert len(result.trajectory) == len(expected.trajectory)
    for record, other in zip(comparable(result.trajectory), comparable(expected.trajectory), strict=True):
        for key in ("loss", "validation_loss", "validation_auc"):
            assert record.pop(key) == pytest.approx(other.pop(key), abs=1e-6)
        assert record == other
    for variable, other in zip(result.model.variables, expected.model.variables, strict=True):
        np.testing.assert_allclose(variable.numpy(), other.numpy(), atol=1e-6)


# What a search finds.


def test_a_useless_field_ends_at_zero_and_a_rank_2_interaction_grows(many_planted):
    planted = many_planted
    config = DimGrowPaperConfig(
        max_steps=800, check_every=20, checkpoint_every=200, learning_rate=1e-2, gate=GateConfig(penalty=1e-3)
    )

    result = search(
        planted.fields,
        planted.batches(),
        method="dimgrow_paper",
        config=config,
        model_config=ModelConfig(adapter_width=8, hidden_units=(16,)),
        seed=0,
    )

    dimensions = result.plan.dimensions
    assert dimensions["noise"] == 0
    assert min(dimensions["left"], dimensions["right"]) >= 2
    assert result.trajectory[-1]["loss"] < 0.5 < result.trajectory[0]["loss"]


def test_min_dim_keeps_a_useless_field():
    fields = (Field(name="noise", vocabulary_size=8, min_dim=1), Field(name="other", vocabulary_size=8, min_dim=1))
    rng = np.random.default_rng(0)
    data = tf.data.Dataset.from_tensor_slices(
        ({f.name: rng.integers(0, 8, 512) for f in fields}, rng.integers(0, 2, 512))
    ).batch(128)
    config = replace(SMALL_SEARCH, gate={"penalty": 1.0})

    result = search(fields, data, method="dimgrow_paper", config=config, model_config=SMALL_MODEL)

    assert result.plan.dimensions == {"noise": 1, "other": 1}


def test_a_search_that_removes_every_field_says_what_to_do(planted):
    config = replace(SMALL_SEARCH, gate={"penalty": 10.0}, growth={})

    with pytest.raises(ValueError, match=r"removed every field. Search longer .*, lower gate.penalty, or .* min_dim=1"):
        run(planted, config)


# Reproducibility.


def test_the_same_seed_gives_the_same_search_which_neither_reads_nor_sets_global_seeds(planted):
    results, draws = [], []
    for seed in (1, 2):
        keras.utils.set_random_seed(seed)
        results.append(run(planted, is_shuffled=False))
        draws.append(np.random.rand())

    assert_same_search(*results)
    assert draws == [np.random.RandomState(seed).rand() for seed in (1, 2)]


def test_another_seed_gives_another_search(planted, uninterrupted):
    other = run(planted, seed=2)

    assert comparable(other.trajectory) != comparable(uninterrupted.trajectory)


# Tracing.


def test_a_whole_search_with_many_growths_traces_its_train_function_once(uninterrupted, traces):
    kinds = [event["action"] for record in uninterrupted.trajectory for event in record["events"]]
    assert kinds.count("grow") >= 5
    assert {"grow", "drop", "revive"} == set(kinds)
    assert traces == [False]


# Records.


def test_there_is_a_record_for_every_check_and_a_validation_for_every_checkpoint(uninterrupted):
    trajectory = uninterrupted.trajectory

    assert [record["step"] for record in trajectory] == list(range(5, 65, 5))
    assert [record["step"] for record in trajectory if record["validation_loss"] is not None] == list(range(10, 70, 10))
    assert all((r["validation_auc"] is None) == (r["validation_loss"] is None) for r in trajectory)


def test_records_hold_what_the_events_did(planted, uninterrupted):
    dims = {field.name: 1 for field in planted.fields}
    for record in uninterrupted.trajectory:
        assert {name: len(gates) for name, gates in record["gates"].items()} == dims
        for event in record["events"]:
            dims[event["field"]] += -1 if event["action"] == "drop" else 1
        assert record["dimensions"] == dims
        assert record["parameters"] == sum(f.vocabulary_size * dims[f.name] for f in planted.fields)
    assert uninterrupted.model.embedding.used_dims() == list(dims.values())


def test_table_bytes_count_all_columns_with_both_moments_of_adam(planted, uninterrupted):
    allocated = uninterrupted.model.embedding.allocated_dims
    values = sum(f.vocabulary_size * dim for f, dim in zip(planted.fields, allocated, strict=True))

    assert uninterrupted.trajectory[-1]["table_bytes"] == 3 * 4 * values


def test_records_are_plain_json(uninterrupted):
    assert json.loads(json.dumps(uninterrupted.trajectory)) == uninterrupted.trajectory


def test_the_losses_of_the_records_average_to_that_of_the_epoch(planted):
    model, growth = make_model(planted, check_every=1)

    history = model.fit(planted.batches(), callbacks=[growth], verbose=0)

    losses = [record["loss"] for record in growth.trajectory]
    rows = [256, 256, 256, 232]
    assert np.average(losses, weights=rows) == pytest.approx(history.history["loss"][0], rel=1e-4)


def test_validation_in_fit_does_not_leak_into_the_loss_of_a_record(planted):
    records = []
    for validation in (None, planted.batches(64, False)):
        model, growth = make_model(planted, check_every=4)
        model.fit(planted.batches(), validation_data=validation, epochs=2, callbacks=[growth], verbose=0)
        records.append([record["loss"] for record in growth.trajectory])

    assert records[1] == pytest.approx(records[0], abs=1e-6)


def test_on_check_is_called_with_each_record(uninterrupted, heard):
    assert [record["step"] for record in heard] == [record["step"] for record in uninterrupted.trajectory]


# Budgets.


@pytest.mark.parametrize(("budget", "limit"), [({"max_total_dims": 5}, 5), ({"max_parameters": 100}, 100)])
def test_every_record_keeps_the_budget(planted, budget, limit):
    config = replace(SMALL_SEARCH, growth=LIVELY.to_dict() | budget)

    result = run(planted, config)

    key = next(iter(budget))
    sizes = [sum(r["dimensions"].values()) if key == "max_total_dims" else r["parameters"] for r in result.trajectory]
    assert max(sizes) <= limit
    assert (result.plan.total_dimensions if key == "max_total_dims" else result.plan.parameters) <= limit


def test_a_budget_below_the_start_is_refused_before_anything_is_built(planted, tmp_path):
    config = DimGrowPaperConfig(growth=GrowthConfig(max_parameters=79))

    with pytest.raises(ValueError, match=r"max_parameters=79 is below one dimension .* takes 80 parameters"):
        run(planted, config, checkpoint_directory=str(tmp_path / "checkpoint"))
    assert not (tmp_path / "checkpoint").exists()


# Ends.


@pytest.mark.parametrize(
    ("max_steps", "check_every", "checkpoint_every", "steps"),
    [
        (12, 5, 10, [5, 10]),
        (3, 5, 10, []),
        (7, 5, 100, [5]),
        (5, 1, 3, [1, 2, 3, 4, 5]),
    ],
)
def test_a_search_takes_max_steps_and_not_one_more(planted, tmp_path, max_steps, check_every, checkpoint_every, steps):
    config = replace(SMALL_SEARCH, max_steps=max_steps, check_every=check_every, checkpoint_every=checkpoint_every)

    result = run(planted, config, min_dim=1, checkpoint_directory=str(tmp_path))

    assert int(result.model.optimizer.iterations) == max_steps
    assert [record["step"] for record in result.trajectory] == steps
    # The end is saved too: the same call returns it without another step.
    again = run(planted, config, min_dim=1, checkpoint_directory=str(tmp_path))
    assert_same_search(again, result)


def test_a_search_whose_gates_are_decided_and_whose_dimensions_rest_ends_by_itself(planted, tmp_path):
    config = replace(
        SMALL_SEARCH,
        patience_checks=2,
        gate={"penalty": 0.0},
        growth={"grow_threshold": 1.0, "shrink_threshold": 0.0},
    )

    result = run(planted, config, min_dim=1, checkpoint_directory=str(tmp_path))

    assert result.has_converged
    assert int(result.model.optimizer.iterations) < 60
    again = run(planted, config, min_dim=1, checkpoint_directory=str(tmp_path))
    assert_same_search(again, result)


def test_a_longer_search_goes_on_where_a_shorter_one_ended(planted, tmp_path, uninterrupted):
    run(planted, replace(SMALL_SEARCH, max_steps=20), checkpoint_directory=str(tmp_path))

    result = run(planted, checkpoint_directory=str(tmp_path))

    assert_same_search(result, uninterrupted)


# Interruptions.


class KilledError(Exception):
    """Stands for the end of the process."""


def kill_at(step: int):
    def on_check(record):
        if record["step"] == step:
            raise KilledError

    return on_check


def test_a_search_killed_in_checks_and_started_again_equals_one_that_was_not(planted, tmp_path, uninterrupted):
    for step in (5, 25, 30, 60):  # the first is killed before its first checkpoint
        with pytest.raises(KilledError):
            run(planted, checkpoint_directory=str(tmp_path), on_check=kill_at(step))

    result = run(planted, checkpoint_directory=str(tmp_path))

    assert_same_search(result, uninterrupted)
    seconds = [record["seconds"] for record in result.trajectory]
    assert seconds == sorted(seconds)  # those before are counted


def test_a_search_killed_while_it_saves_keeps_the_checkpoint_before(planted, tmp_path, uninterrupted, monkeypatch):
    renames = []
    original = tf.io.gfile.rename

    def rename(*args, **kwargs):
        renames.append(args)
        if len(renames) == 3:
            raise KilledError
        original(*args, **kwargs)

    monkeypatch.setattr(tf.io.gfile, "rename", rename)
    with pytest.raises(KilledError):
        run(planted, checkpoint_directory=str(tmp_path))
    result = run(planted, checkpoint_directory=str(tmp_path))

    assert_same_search(result, uninterrupted)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["search.npz"]
    assert len(renames) == 3 + 4  # gone on from step 20


def test_a_search_interrupted_between_checks_goes_on_from_its_last_checkpoint(planted, tmp_path, uninterrupted):
    def rows_then_interrupt():
        for number, batch in enumerate(planted.batches().repeat().as_numpy_iterator()):
            if number == 23:
                raise KeyboardInterrupt
            yield batch

    spec = planted.batches().element_spec
    interrupted = tf.data.Dataset.from_generator(rows_then_interrupt, output_signature=spec)
    with pytest.raises((KeyboardInterrupt, tf.errors.UnknownError)):
        search(
            planted.fields,
            interrupted,
            planted.batches(512, False),
            method="dimgrow_paper",
            config=SMALL_SEARCH,
            model_config=SMALL_MODEL,
            seed=1,
            checkpoint_directory=str(tmp_path),
        )

    assert_same_search(run(planted, checkpoint_directory=str(tmp_path)), uninterrupted)


@pytest.fixture(scope="module")
def saved(planted, tmp_path_factory):
    """(settings, checkpoint directory) of a search that was finished."""
    directory = str(tmp_path_factory.mktemp("saved"))
    config = replace(SMALL_SEARCH, max_steps=10)
    run(planted, config, min_dim=1, checkpoint_directory=directory)
    return config, directory


@pytest.mark.parametrize(
    "change",
    [
        lambda fields: fields[:2],
        lambda fields: [*fields[:2], dataclasses.replace(fields[2], vocabulary_size=9)],
        lambda fields: [*fields[:2], dataclasses.replace(fields[2], name="other")],
        lambda fields: [fields[2], fields[1], fields[0]],
    ],
    ids=["fewer fields", "another vocabulary", "another name", "another order"],
)
def test_a_checkpoint_of_other_fields_is_refused(planted, saved, change):
    config, directory = saved

    with pytest.raises(ValueError, match=r"search.npz is a checkpoint of another model .* Delete it, or name another"):
        search(
            change([dataclasses.replace(field, min_dim=1) for field in planted.fields]),
            planted.batches(),
            method="dimgrow_paper",
            config=config,
            model_config=SMALL_MODEL,
            checkpoint_directory=directory,
        )


def test_a_checkpoint_of_another_backbone_is_refused(planted, saved):
    config, directory = saved

    for other in (ModelConfig(adapter_width=4, hidden_units=(8,), dropout=0.1), ModelConfig(hidden_units=(8, 8))):
        with pytest.raises(ValueError, match=r"is a checkpoint of another model"):
            run(planted, config, min_dim=1, model_config=other, checkpoint_directory=directory)


# The callback in fits of one's own.


def make_model(planted, optimizer=None, **options):
    layer = DimGrowEmbedding(planted.fields, 8, seed=0, gate=SMALL_SEARCH.gate, name="embedding")
    model = build_model(layer, SMALL_MODEL, 0)
    model.compile(optimizer or LazyAdam(2e-2), "binary_crossentropy")
    return model, DimensionSearch(layer, **({"growth": LIVELY, "check_every": 5} | options))


def steps_of(growth) -> list[int]:
    return [record["step"] for record in growth.trajectory]


def test_a_second_fit_with_scaled_losses_goes_on_with_the_scale_of_the_first(planted):
    model, growth = make_model(planted, optimizer=keras.optimizers.LossScaleOptimizer(LazyAdam(2e-2)))
    model.fit(planted.batches(), callbacks=[growth], verbose=0)
    variables = [*model.optimizer.variables]

    model.fit(planted.batches(), callbacks=[growth], verbose=0)

    assert [id(v) for v in model.optimizer.variables] == [id(v) for v in variables]
    assert int(model.optimizer.step_counter.numpy()) == 8


def test_checks_come_every_so_many_steps_across_epochs_and_fits(planted):
    model, growth = make_model(planted, check_every=3)

    model.fit(planted.batches(), epochs=2, callbacks=[growth], verbose=0)
    model.fit(planted.batches(), epochs=2, callbacks=[growth], verbose=0)

    assert steps_of(growth) == [3, 6, 9, 12, 15]
    assert int(model.optimizer.iterations) == 16


def test_a_model_compiled_anew_is_checked_in_short_fits_too(planted):
    model, growth = make_model(planted, check_every=6)
    model.fit(planted.batches(), epochs=5, callbacks=[growth], verbose=0)
    model.compile(LazyAdam(2e-2), "binary_crossentropy")
    before = len(growth.trajectory)

    for _ in range(4):
        model.fit(planted.batches(), callbacks=[growth], verbose=0)

    assert steps_of(growth)[before:] == [6, 12]


def test_with_steps_per_execution_checks_come_at_the_next_execution(planted):
    layer = DimGrowEmbedding(planted.fields, 8, seed=0)
    model = build_model(layer, SMALL_MODEL, 0)
    model.compile(LazyAdam(2e-2), "binary_crossentropy", steps_per_execution=4)
    growth = DimensionSearch(layer, LIVELY, check_every=5)

    model.fit(planted.batches().repeat(), epochs=2, steps_per_epoch=12, callbacks=[growth], verbose=0)

    assert steps_of(growth) == [8, 16, 24]
    assert layer.policy_state.numpy()[:, QUIET].max() <= 3


def test_max_steps_ends_a_fit(planted):
    model, growth = make_model(planted, max_steps=6)

    model.fit(planted.batches(), epochs=10, callbacks=[growth], verbose=0)

    assert int(model.optimizer.iterations) == 6


def test_max_steps_ends_a_fit_in_the_execution_that_reaches_it(planted):
    model, growth = make_model(planted, max_steps=6)
    model.compile(LazyAdam(2e-2), "binary_crossentropy", steps_per_execution=4)

    model.fit(planted.batches().repeat(), steps_per_epoch=40, callbacks=[growth], verbose=0)

    assert int(model.optimizer.iterations) == 8


def test_a_fit_after_one_that_converged_searches_for_patience_checks_more(planted):
    growth_config = GrowthConfig(grow_threshold=1.0, shrink_threshold=0.0)
    model, _ = make_model(planted)
    growth = DimensionSearch(model.embedding, growth_config, check_every=2, patience_checks=3)
    steps = []
    for _ in range(2):
        model.fit(planted.batches().repeat(), steps_per_epoch=100, callbacks=[growth], verbose=0)
        assert growth.has_converged
        steps.append(int(model.optimizer.iterations))

    assert steps[1] - steps[0] == 3 * 2


# What an epoch's logs say.

SIZES = ("total_dimensions", "embedding_parameters", "embedding_bytes")


@pytest.mark.parametrize("has_validation", [False, True])
def test_history_has_sizes_and_the_dimensions_of_every_field_at_each_epochs_end(planted, has_validation):
    model, growth = make_model(planted, check_every=4)  # each epoch's end is a check

    history = model.fit(
        planted.batches(),
        validation_data=planted.batches(512, False) if has_validation else None,
        epochs=5,
        callbacks=[growth],
        verbose=0,
    ).history

    records = growth.trajectory
    assert any(record["events"] for record in records)
    for field in planted.fields:
        assert history[f"dimensions/{field.name}"] == [record["dimensions"][field.name] for record in records]
    assert history["total_dimensions"] == [sum(record["dimensions"].values()) for record in records]
    assert history["embedding_parameters"] == [record["parameters"] for record in records]
    assert history["embedding_bytes"] == [record["table_bytes"] for record in records]
    assert len(history["loss"]) == 5
    assert ("val_loss" in history) == has_validation


def test_sizes_reach_the_callbacks_after_the_search_and_the_progress_bar_shows_no_field(planted, tmp_path, capsys):
    model, growth = make_model(planted)
    later = keras.callbacks.CSVLogger(tmp_path / "log.csv")

    model.fit(planted.batches(), callbacks=[growth, later], verbose=2)

    columns = (tmp_path / "log.csv").read_text().splitlines()[0].split(",")
    line = capsys.readouterr().out
    for key in SIZES:
        assert key in columns
        assert f"{key}: " in line
    assert "dimensions/" not in line


def test_an_early_stop_can_watch_the_sizes(planted):
    model, growth = make_model(planted, growth=GrowthConfig(grow_threshold=1.0, shrink_threshold=0.0))
    rest = keras.callbacks.EarlyStopping("total_dimensions", patience=2, mode="min")

    history = model.fit(planted.batches(), epochs=9, callbacks=[growth, rest], verbose=0)

    assert len(history.epoch) == 3


def test_an_optimizer_without_growable_slots_is_refused(planted):
    model, growth = make_model(planted, keras.optimizers.Adam())

    with pytest.raises(ValueError, match=r"slots of Adam do not grow .*keras_dimgrow\.growable\(optimizer\), or with"):
        model.fit(planted.batches(), callbacks=[growth], verbose=0)


def test_a_model_that_is_not_built_is_refused(planted):
    layer = DimGrowEmbedding(planted.fields, 8, name="embedding")
    model = keras.Sequential([layer, keras.layers.Dense(1, "sigmoid")])
    model.compile(LazyAdam(), "binary_crossentropy")

    with pytest.raises(ValueError, match=r"the layer 'embedding' has no variables yet. Call the model on one batch"):
        model.fit(planted.batches(), callbacks=[DimensionSearch(layer)], verbose=0)


def test_a_budget_below_the_start_of_a_fit_is_refused(planted):
    model, _ = make_model(planted)
    growth = DimensionSearch(model.embedding, GrowthConfig(max_total_dims=2))

    with pytest.raises(ValueError, match=r"max_total_dims=2 is below one dimension for each of the 3 fields"):
        model.fit(planted.batches(), callbacks=[growth], verbose=0)
