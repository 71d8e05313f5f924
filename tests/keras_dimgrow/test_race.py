import numpy as np
import pytest
import tensorflow as tf

from keras_dimgrow import EmbeddingPlan, Field
from keras_dimgrow import race as race_module
from keras_dimgrow.layers import PlannedEmbedding
from keras_dimgrow.models import ModelConfig, build_model
from keras_dimgrow.optimizers import LazyAdam
from keras_dimgrow.race import judge, race, survivors
from keras_dimgrow.race_track import Track, read_chunks, shares_track
from tests.keras_dimgrow.conftest import Planted

MODEL = ModelConfig(adapter_width=8, hidden_units=(8,))


def plan_of(fields, *dimensions):
    return EmbeddingPlan.from_dimensions(fields, {f.name: d for f, d in zip(fields, dimensions, strict=True)})


@pytest.fixture(scope="module")
def plans():
    """Of the fields left, noise and right; only left and right are of any use, with two dimensions each."""
    fields = Planted(1).fields
    dimensions = {"rule": (0, 4, 1), "good": (2, 0, 2), "wide": (4, 1, 4), "poor": (1, 1, 0), "also": (3, 1, 2)}
    return {name: plan_of(fields, *each) for name, each in dimensions.items()}


@pytest.fixture(scope="module")
def rows(many_planted):
    """16384 rows in batches to train on, 4096 others to judge by."""

    def batches(begin, end, size):
        ids = {name: values[begin:end] for name, values in many_planted.ids.items()}
        return tf.data.Dataset.from_tensor_slices((ids, many_planted.labels[begin:end])).batch(size)

    return batches(0, 16384, 512).cache(), batches(60000, 64096, 1000).cache()


@pytest.fixture
def run(plans, rows):
    def run(names, incumbent, **settings):
        settings = {"round_steps": (30, 30), "learning_rate": 0.03, "model_config": MODEL} | settings
        return race({name: plans[name] for name in names}, *rows, incumbent=incumbent, **settings)

    return run


def fitted(plan, model_config, data, num_steps):
    layer = PlannedEmbedding(plan, model_config.adapter_width, model_config.adapter, seed=3)
    model = build_model(layer, model_config, 3)
    model.compile(LazyAdam(0.02), "binary_crossentropy")
    model.fit(data.repeat(), epochs=1, steps_per_epoch=num_steps, shuffle=False, verbose=0)
    return model


def assert_track_equals_fit(plans, model_config, data, fields):
    """The last of `plans`, after the others were on the track."""
    chunks = read_chunks(data.repeat().take(6), fields)
    track = Track(plans, model_config, 0.02, seed=3)
    for plan in plans:
        track.start(plan)
        track.train(chunks)
    model = fitted(plans[-1], model_config, data, 6)
    expected = [model(inputs).numpy().ravel() for inputs, _ in data.repeat().take(6)]
    np.testing.assert_allclose(track.predict(chunks), np.concatenate(expected), atol=1e-5)


@pytest.mark.parametrize("backbone", ["wide_deep", "deepfm"])
def test_steps_of_plans_on_a_track_equal_those_of_fit(planted, plans, backbone):
    model_config = ModelConfig(backbone=backbone, adapter_width=8, hidden_units=(8,), dropout=0.1)
    pair = [plans["wide"], plans["also"]]
    assert shares_track(*pair, model_config)
    assert_track_equals_fit(pair, model_config, planted.batches(is_shuffled=False), planted.fields)


def test_steps_of_fields_with_many_values_and_shared_tables_equal_those_of_fit():
    fields = (
        Field(name="tags", vocabulary_size=9, combiner="mean", weights="w", missing_id=0, table="shared"),
        Field(name="tag", vocabulary_size=9, table="shared"),
        Field(name="user", vocabulary_size=5),
    )
    rng = np.random.default_rng(0)
    inputs = {
        "tags": rng.integers(0, 9, (90, 3)),
        "w": rng.random((90, 3)).astype(np.float32),
        "tag": rng.integers(0, 9, 90),
        "user": rng.integers(0, 5, 90),
    }
    data = tf.data.Dataset.from_tensor_slices((inputs, rng.integers(0, 2, 90).astype(np.float32))).batch(40)
    assert_track_equals_fit([plan_of(fields, 2, 2, 3)], MODEL, data, fields)


def test_steps_of_plain_fields_of_one_table_equal_those_of_fit():
    fields = tuple(Field(name=name, vocabulary_size=9, table=table) for name, table in zip("abc", "sts", strict=True))
    rng = np.random.default_rng(0)
    inputs = {name: rng.integers(0, 9, 90) for name in "abc"}
    data = tf.data.Dataset.from_tensor_slices((inputs, rng.integers(0, 2, 90).astype(np.float32))).batch(40)
    assert_track_equals_fit([plan_of(fields, 2, 2, 2), plan_of(fields, 3, 1, 3)], MODEL, data, fields)


def test_a_clearly_better_plan_beats_the_incumbent(run):
    result = run(["rule", "good", "poor"], "rule")
    last = {record["name"]: record for record in result.records if record["round"] == 2}
    assert result.winner == "good"
    assert result.plan.dimensions == {"left": 2, "noise": 0, "right": 2}
    assert last["good"]["gain"] > 10 * last["good"]["standard_error"]
    assert last["rule"]["gain"] == last["rule"]["standard_error"] == 0.0


def test_the_incumbent_stays_when_another_is_not_clearly_better(plans, rows):
    train_data, validation_data = rows
    few_rows = validation_data.unbatch().take(20).batch(20)
    pair = {name: plans[name] for name in ("good", "also")}
    winners = set()
    for incumbent in pair:
        settings = {"round_steps": (30,), "learning_rate": 0.03, "model_config": MODEL}
        result = race(pair, train_data, few_rows, incumbent=incumbent, **settings)
        other = next(record for record in result.records if record["name"] != incumbent)
        assert abs(other["gain"]) <= other["standard_error"]
        winners.add(result.winner)
    assert winners == set(pair)


@pytest.mark.parametrize(("gain", "winner"), [(-0.1, "mine"), (0.0, "mine"), (0.02, "mine"), (0.021, "other")])
def test_one_standard_error_decides(gain, winner):
    records = [
        {"name": "mine", "log_loss": 0.5, "gain": 0.0, "standard_error": 0.0},
        {"name": "other", "log_loss": 0.5 - gain, "gain": gain, "standard_error": 0.02},
    ]
    assert judge(records, "mine") == winner


@pytest.mark.parametrize(("num_plans", "num_kept"), [(2, 2), (3, 2), (4, 2), (5, 3), (8, 4), (9, 5)])
def test_the_worse_half_leaves_but_never_the_incumbent(num_plans, num_kept):
    losses = {f"plan_{i}": 0.1 * i for i in range(num_plans)}
    worst = f"plan_{num_plans - 1}"
    assert survivors(losses, "plan_0") == list(losses)[:num_kept]
    assert survivors(losses, worst) == [*list(losses)[: num_kept - 1], worst]


def test_the_next_round_trains_only_those_that_are_left(run):
    result = run(["rule", "good", "wide", "poor", "also"], "rule", round_steps=(20, 10))
    first, second = ([r for r in result.records if r["round"] == number] for number in (1, 2))
    assert {record["name"] for record in first if not record["is_eliminated"]} == {r["name"] for r in second}
    assert (len(first), len(second)) == (5, 3)
    assert {record["steps"] for record in second} == {30}
    assert not any(record["is_eliminated"] for record in second)


def test_equal_plans_run_once_under_the_name_of_the_incumbent(plans, rows):
    three = {"b": plans["good"], "rule": plans["rule"], "a": plans["good"]}
    result = race(three, *rows, incumbent="a", model_config=MODEL, round_steps=(1,))
    assert [(record["name"], record["same_plan_as"]) for record in result.records] == [("a", ["b"]), ("rule", [])]


def test_a_race_of_equal_plans_trains_nothing(plans, rows):
    result = race({"a": plans["good"], "b": plans["good"]}, *rows, incumbent="b")
    assert (result.winner, result.plan, result.records) == ("b", plans["good"], [])


def test_two_races_of_one_seed_are_equal_and_of_two_seeds_are_not(run):
    first, again, other = (run(["good", "poor"], "good", round_steps=(5,), seed=seed) for seed in (1, 1, 2))
    assert first.records == again.records
    assert first.records != other.records


def test_contestants_that_wait_on_disk_run_as_those_in_memory(run, plans, monkeypatch):
    names = ["rule", "good", "wide", "poor"]
    most = 12 * max(plans[name].parameters for name in names)
    saved = []
    monkeypatch.setattr(np, "savez", lambda path, *arrays, savez=np.savez: (saved.append(path), savez(path, *arrays)))

    in_memory = run(names, "rule", round_steps=(5, 5))
    assert not saved
    on_disk = run(names, "rule", round_steps=(5, 5), max_table_bytes=most)

    assert len(saved) == 6  # four after the first round, two after the second
    assert on_disk.records == in_memory.records


def test_contestants_take_turns_where_memory_does_not_hold_a_round_and_end_alike(run, monkeypatch):
    names = ["rule", "good", "wide"]
    expected = run(names, "rule", round_steps=(20, 5))
    turns, train = [], Track.train
    monkeypatch.setattr(Track, "train", lambda track, chunks: (turns.append(track), train(track, chunks)))
    monkeypatch.setattr(race_module, "MAX_BLOCK_BYTES", 100_000)  # 9 batches of 12 kB; all held-out rows take 98 kB

    found = run(names, "rule", round_steps=(20, 5))

    assert len(turns) == 3 * 3 + 2
    assert found.records == expected.records


def test_the_records_of_each_round_are_reported(run):
    rounds = []
    result = run(["good", "poor"], "good", round_steps=(1, 1), on_round=rounds.append)
    assert [len(records) for records in rounds] == [2, 2]
    assert [record for records in rounds for record in records] == result.records


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"incumbent": "none"}, "must be one of the plans .*received 'none'"),
        ({"round_steps": ()}, "round_steps must be"),
        ({"round_steps": (5, 0)}, "round_steps must be"),
        ({"max_table_bytes": 100}, "received max_table_bytes=100"),
    ],
)
def test_a_race_that_cannot_be_run_says_why(run, settings, message):
    with pytest.raises(ValueError, match=message):
        run(["good", "poor"], **({"incumbent": "good"} | settings))


def test_plans_of_other_fields_are_refused(plans, rows):
    other = plan_of((Field(name="else", vocabulary_size=3),), 1)
    with pytest.raises(ValueError, match="same fields; received \\['else'\\] in 'b'"):
        race({"a": plans["good"], "b": other}, *rows, incumbent="a")


@pytest.mark.parametrize("empty", ["train_data", "validation_data"])
def test_data_without_rows_are_refused(plans, rows, empty):
    data = dict(zip(("train_data", "validation_data"), rows, strict=True))
    data[empty] = data[empty].take(0)
    with pytest.raises(ValueError, match=f"{empty} has no batches"):
        race({"a": plans["good"], "b": plans["poor"]}, **data, incumbent="a")
