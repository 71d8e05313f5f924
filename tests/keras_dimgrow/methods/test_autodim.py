"""AutoDim: its layer, who learns from which rows, its temperature, and what a search gives."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from keras_dimgrow import Field, ModelConfig, build_model, search
from keras_dimgrow.methods.autodim import AutoDimConfig, alpha_every_of, candidates_of, num_steps_of, temperature_at
from keras_dimgrow.methods.autodim_layer import AutoDimEmbedding
from keras_dimgrow.methods.autodim_training import AutoDimTraining, shuffled_forever
from keras_dimgrow.methods.problem import SearchProblem

SMALL_MODEL = ModelConfig(adapter_width=4, hidden_units=(8,))
SMALL_SEARCH = AutoDimConfig(candidates=(1, 2, 4), epochs=5, alpha_every=3, check_every=5)


def make_layer(fields, candidates=(1, 2, 4), is_sharing=True, is_linear=True, adapter="joint") -> AutoDimEmbedding:
    count = len({field.table_key for field in fields})
    layer = AutoDimEmbedding(fields, [candidates] * count, is_sharing, is_linear, 4, adapter, seed=0, name="embedding")
    layer.build(None)
    return layer


def make_training(planted, **options) -> AutoDimTraining:
    problem = SearchProblem(
        fields=planted.fields, train_data=planted.batches(), validation_data=planted.batches(512, False)
    )
    model = build_model(make_layer(planted.fields, **options), SMALL_MODEL, seed=0)
    return AutoDimTraining(problem, model, learning_rate=0.01, alpha_learning_rate=0.01)


def run(planted, config=SMALL_SEARCH, **options):
    options = {"model_config": SMALL_MODEL, "seed": 1} | options
    return search(
        planted.fields, planted.batches(), planted.batches(512, False), method="autodim", config=config, **options
    )


def values(variables) -> list[np.ndarray]:
    return [variable.numpy() for variable in variables]


def has_changed(variables, before) -> list[bool]:
    return [not np.array_equal(variable.numpy(), value) for variable, value in zip(variables, before, strict=True)]


# The layer.


@pytest.mark.parametrize("adapter", ["joint", "per_field"])
def test_at_weight_sharing_a_candidate_reads_the_first_columns_only(planted, adapter):
    layer = make_layer(planted.fields, adapter=adapter)
    layer.temperature.assign(1e-9)
    layer.alphas[0].assign([[0.0, 1e3, 0.0]] * 3)  # candidate 2, whatever the noise
    ids = {name: tf.constant(column[:64]) for name, column in planted.ids.items()}
    before = np.asarray(layer(ids))
    table = layer.tables[0].numpy()

    layer.tables[0].assign(np.concatenate([table[:, :2], table[:, 2:] + np.random.rand(len(table), 2)], axis=1))
    after_its_tail_changed = np.asarray(layer(ids))
    layer.tables[0].assign(np.concatenate([np.random.rand(len(table), 2), table[:, 2:]], axis=1))
    after_its_head_changed = np.asarray(layer(ids))

    np.testing.assert_allclose(after_its_tail_changed, before, atol=1e-6)
    assert not np.allclose(after_its_head_changed, before, atol=1e-3)


@pytest.mark.parametrize("is_linear", [True, False])
def test_the_joint_output_is_the_sum_of_those_per_field(planted, is_linear):
    joint, per_field = (
        make_layer(planted.fields, is_linear=is_linear, adapter=adapter) for adapter in ("joint", "per_field")
    )
    ids = {name: tf.constant(column[:64]) for name, column in planted.ids.items()}

    before = joint.noise_seed.numpy()
    assert per_field(ids).shape == (64, 3, 4)
    joint.noise_seed.assign(before), per_field.noise_seed.assign(before)
    np.testing.assert_allclose(joint(ids), tf.reduce_sum(per_field(ids), axis=1), atol=1e-5)


@pytest.mark.parametrize("is_linear", [True, False])
def test_by_batchnorm_neither_scale_nor_offset_of_a_table_changes_the_output(planted, is_linear):
    layer = make_layer(planted.fields, is_linear=is_linear)
    layer.temperature.assign(float("inf"))
    ids = {name: tf.constant(column[:64]) for name, column in planted.ids.items()}
    table = layer.tables[0].numpy() * 100.0  # so large that BatchNorm's epsilon does not count
    layer.tables[0].assign(table)
    before = np.asarray(layer(ids))

    layer.tables[0].assign(3.0 * table + 0.5)

    np.testing.assert_allclose(layer(ids), before, atol=1e-4)
    np.testing.assert_allclose(before.mean(0), 0.0, atol=1e-6)
    assert before.std() > 1e-3


def test_fields_keep_their_places_whatever_their_candidates_and_values_a_row():
    fields = [
        Field(name="tags", vocabulary_size=6, combiner="mean", missing_id=0),
        Field(name="city", vocabulary_size=5, max_dim=2),
        Field(name="user", vocabulary_size=7),
    ]
    rng = np.random.default_rng(0)
    ids = {
        "tags": tf.constant(rng.integers(0, 6, (32, 3))),
        "city": tf.constant(rng.integers(0, 5, 32)),
        "user": tf.constant(rng.integers(0, 7, 32)),
    }
    candidates = [candidates_of(field, (1, 2, 4)) for field in fields]
    layer = AutoDimEmbedding(fields, candidates, True, True, 4, "per_field", seed=0)
    layer.build(None)
    layer.temperature.assign(float("inf"))
    before = np.asarray(layer(ids))

    for position, field in enumerate(fields):
        changed = ids | {field.name: tf.reverse(ids[field.name], [0])}
        is_moved = np.abs(np.asarray(layer(changed)) - before).max((0, 2)) > 1e-4

        assert is_moved.tolist() == [i == position for i in range(3)]


def test_fields_of_one_table_share_alpha_and_draws_but_not_their_transformations():
    fields = [
        Field(name="seen", vocabulary_size=9, table="item"),
        Field(name="hour", vocabulary_size=24),
        Field(name="shown", vocabulary_size=9, table="item"),
    ]
    layer = make_layer(fields, adapter="per_field")

    assert layer.alphas[0].shape == (2, 3)
    assert layer.tables[0].shape == (9 + 24, 4)
    assert [kernel.shape[0] for kernel in layer.transformations[0]] == [3, 3, 3]


# Who learns, and from which rows (Algorithm 1).


def test_a_training_batch_moves_every_weight_but_alpha(planted):
    training = make_training(planted)
    alphas, weights = values(training.layer.alphas), values(training._weights)

    training.train(next(iter(planted.batches())), with_alpha=False)

    assert has_changed(training._weights, weights) == [True] * len(weights)
    assert not any(has_changed(training.layer.alphas, alphas))


def test_a_validation_batch_moves_alpha_and_nothing_else(planted):
    training = make_training(planted)
    alphas, weights = values(training.layer.alphas), values(training._weights)

    training.update_alpha(next(iter(planted.batches(512, False))))

    assert has_changed(training.layer.alphas, alphas) == [True]
    assert not any(has_changed(training._weights, weights))


def test_in_the_s_variant_one_training_batch_moves_both(planted):
    training = make_training(planted)
    alphas, weights = values(training.layer.alphas), values(training._weights)

    training.train(next(iter(planted.batches())), with_alpha=True)

    assert has_changed(training._weights, weights) == [True] * len(weights)
    assert has_changed(training.layer.alphas, alphas) == [True]


def test_only_rows_of_the_batch_are_updated_in_a_table(planted):
    training = make_training(planted)
    before = training.layer.tables[0].numpy()

    training.train(
        ({field.name: tf.constant([1, 3], tf.int64) for field in planted.fields}, tf.constant([0.0, 1.0])), False
    )

    changed = np.flatnonzero((training.layer.tables[0].numpy() != before).any(axis=1))
    assert changed.tolist() == [1, 3, 8 + 1, 8 + 3, 72 + 1, 72 + 3]


@pytest.mark.parametrize("simultaneous", [False, True])
def test_alpha_rests_while_weights_are_pretrained_and_then_moves(planted, simultaneous):
    config = dataclasses.replace(SMALL_SEARCH, pretrain=0.5, simultaneous=simultaneous)

    trajectory = run(planted, config).trajectory

    assert [record["step"] for record in trajectory] == [5, 10, 15, 20]
    is_equal = [all(len(set(alpha)) == 1 for alpha in record["alpha"].values()) for record in trajectory]
    assert is_equal == [True, True, False, False]
    assert [np.isinf(record["temperature"]) for record in trajectory] == [True, True, False, False]


def test_alpha_is_updated_once_every_alpha_every_steps_after_pretraining(planted, monkeypatch):
    calls = []
    train, update_alpha = AutoDimTraining.train, AutoDimTraining.update_alpha
    monkeypatch.setattr(AutoDimTraining, "train", lambda *a, **k: (calls.append("w"), train(*a, **k)))
    monkeypatch.setattr(AutoDimTraining, "update_alpha", lambda *a: (calls.append("a"), update_alpha(*a)))

    run(planted, dataclasses.replace(SMALL_SEARCH, max_steps=10, pretrain=0.3))

    assert "".join(calls) == "www" + "awww" + "awww" + "aw"


@pytest.mark.parametrize(("num_steps", "expected"), [(1, 1), (3999, 1), (4000, 2), (20_000, 10), (90_000, 10)])
def test_alpha_learns_more_often_in_short_searches_unless_told(num_steps, expected):
    assert alpha_every_of(num_steps, AutoDimConfig()) == expected
    assert alpha_every_of(num_steps, AutoDimConfig(alpha_every=7)) == 7


def test_a_whole_search_traces_each_of_its_functions_once(planted, monkeypatch):
    traces = []
    original = AutoDimEmbedding._look_up
    monkeypatch.setattr(AutoDimEmbedding, "_look_up", lambda *a: (traces.append(1), original(*a))[1])

    run(planted)  # the last batch of each pass is shorter

    assert len(traces) == 2


def test_validation_batches_come_shuffled_again_and_again_and_each_equally_often():
    batches = shuffled_forever(tf.data.Dataset.range(20), seed=0)

    drawn = [int(next(batches)) for _ in range(400)]

    assert drawn[:20] != sorted(drawn[:20])
    assert np.bincount(drawn, minlength=20).min() >= 15
    again = shuffled_forever(tf.data.Dataset.range(20), seed=0)
    assert [int(next(again)) for _ in range(400)] == drawn


# Temperature (section 3.2).


def test_the_temperature_falls_as_in_the_paper_if_told():
    config = AutoDimConfig(annealing=0.00005)

    found = [temperature_at(t, 40_000, config) for t in (0, 1, 10_000, 19_800, 30_000)]

    assert found == pytest.approx([1.0, 0.99995, 0.5, 0.01, 0.01])


@pytest.mark.parametrize("num_steps", [1, 2, 300, 20_000])
def test_by_default_the_temperature_is_lowest_in_the_last_step_however_long_the_search(num_steps):
    config = AutoDimConfig(min_temperature=0.02)

    found = [temperature_at(t, num_steps, config) for t in range(num_steps)]

    assert found[0] == 1.0
    assert found == sorted(found, reverse=True)
    assert num_steps == 1 or found[-1] == pytest.approx(0.02)


# What a search gives.


@pytest.mark.parametrize(
    ("embeddings", "transformation", "simultaneous", "backbone"),
    [
        ("sharing", "padding", False, "fm"),  # AD-1
        ("sharing", "linear", False, "wide_deep"),  # AD-2
        ("separate", "padding", False, "wide_deep"),  # AD-3
        ("separate", "linear", False, "fm"),  # AD-4
        ("sharing", "linear", True, "fm"),  # AutoDim-s
    ],
)
def test_every_variant_gives_a_plan_out_of_the_candidates(planted, embeddings, transformation, simultaneous, backbone):
    config = dataclasses.replace(
        SMALL_SEARCH, epochs=2, embeddings=embeddings, transformation=transformation, simultaneous=simultaneous
    )

    result = search(
        planted.fields,
        planted.batches(),
        None if simultaneous else planted.batches(512, False),
        method="autodim",
        config=config,
        model_config=dataclasses.replace(SMALL_MODEL, backbone=backbone),
    )

    assert set(result.plan.dimensions.values()) <= {1, 2, 4}
    columns = 4 if embeddings == "sharing" else 7
    assert result.peak_table_bytes == (8 + 64 + 8) * columns * 4 * 3
    last = result.trajectory[-1]
    assert last["dimensions"] == result.plan.dimensions
    assert last["parameters"] == result.plan.parameters
    assert np.isfinite(last["loss"])
    for name, alpha in last["alpha"].items():
        assert result.plan.dimensions[name] == (1, 2, 4)[int(np.argmax(alpha))]


def test_a_useless_field_gets_the_smallest_candidate_and_an_interaction_of_rank_4_the_largest():
    rng = np.random.default_rng(0)
    size, rank, num_rows = 30, 4, 16384
    fields = [Field(name=name, vocabulary_size=V) for name, V in (("left", size), ("noise", 3000), ("right", size))]
    u, v = (np.linalg.qr(rng.normal(size=(size, size)))[0][:, :rank] * size**0.5 for _ in range(2))
    ids = {field.name: rng.integers(0, field.vocabulary_size, num_rows) for field in fields}
    logits = (u[ids["left"]] * v[ids["right"]]).sum(1)
    labels = (rng.random(num_rows) < 1 / (1 + np.exp(-logits))).astype("float32")
    rows = tf.data.Dataset.from_tensor_slices((ids, labels))
    config = AutoDimConfig(candidates=(1, 8), epochs=6, learning_rate=0.01, alpha_learning_rate=0.02)

    result = search(
        fields,
        rows.take(12288).shuffle(12288, seed=0).batch(256),
        rows.skip(12288).batch(256),
        method="autodim",
        config=config,
        model_config=ModelConfig(adapter_width=8, hidden_units=(16,)),
    )

    assert result.plan.dimensions == {"left": 8, "noise": 1, "right": 8}


def test_a_search_learns_and_reports_its_records(planted):
    heard = []
    config = dataclasses.replace(SMALL_SEARCH, epochs=25, learning_rate=0.01)

    result = run(planted, config, on_check=heard.append)

    assert heard == result.trajectory
    assert heard[-1]["step"] == 100
    assert heard[-1]["loss"] < heard[0]["loss"] - 0.05
    assert heard[0]["validation_loss"] is None  # pretraining
    assert heard[-1]["validation_loss"] > 0.0


def test_the_same_seed_gives_the_same_search_whatever_the_global_seed(planted):
    def found(seed, global_seed):
        tf.random.set_seed(global_seed)
        data = planted.batches(is_shuffled=False)
        options = {"config": SMALL_SEARCH, "model_config": SMALL_MODEL, "method": "autodim", "seed": seed}
        return [record["alpha"] for record in search(planted.fields, data, data, **options).trajectory]

    assert found(1, 5) == found(1, 6)


def test_limits_shared_tables_and_fixed_fields_are_kept(planted):
    left, noise, right = (dataclasses.replace(field, max_dim=2) for field in planted.fields)
    fields = (
        dataclasses.replace(left, table="side"),
        dataclasses.replace(noise, min_dim=6, max_dim=6),
        dataclasses.replace(right, table="side"),
    )

    result = search(
        fields, planted.batches(), planted.batches(), method="autodim", config=SMALL_SEARCH, model_config=SMALL_MODEL
    )

    assert result.plan.dimensions["left"] == result.plan.dimensions["right"] <= 2
    assert result.plan.dimensions["noise"] == 6
    alpha = result.trajectory[-1]["alpha"]
    assert alpha["left"] == alpha["right"]
    assert [len(alpha[name]) for name in ("left", "noise")] == [2, 1]
    assert result.peak_table_bytes == (8 * 2 + 64 * 6) * 4 * 3


@pytest.mark.parametrize(
    ("limits", "expected"),
    [({}, (1, 2, 4)), ({"max_dim": 3}, (1, 2)), ({"min_dim": 2}, (2, 4)), ({"min_dim": 3, "max_dim": 3}, (3,))],
)
def test_candidates_of_a_field_are_those_within_its_limits(limits, expected):
    assert candidates_of(Field(name="city", vocabulary_size=9, **limits), (1, 2, 4)) == expected


def test_a_checkpoint_directory_is_said_to_be_unused(planted, tmp_path, caplog):
    config = dataclasses.replace(SMALL_SEARCH, max_steps=1)

    run(planted, config, checkpoint_directory=str(tmp_path / "checkpoints"))

    assert "autodim keeps no checkpoints" in caplog.text
    assert not list(tmp_path.iterdir())


# How long.


@pytest.mark.parametrize(
    ("is_known", "settings", "expected"),
    [(True, {}, 8), (False, {}, 8), (True, {"max_steps": 3}, 3), (True, {"max_steps": 9}, 8)],
)
def test_steps_are_counted_from_the_data(planted, is_known, settings, expected):
    data = planted.batches()
    data = data if is_known else data.filter(lambda ids, labels: True)

    assert num_steps_of(data, AutoDimConfig(epochs=2, **settings)) == expected


def test_endless_data_need_max_steps(planted):
    data = planted.batches().repeat()
    assert num_steps_of(data, AutoDimConfig(max_steps=7)) == 7

    with pytest.raises(ValueError, match=r"train_data never ends.*without repeat\(\), or set AutoDimConfig.max_steps"):
        search(planted.fields, data, data, method="autodim")


# Errors.


def test_only_the_s_variant_searches_without_validation_rows(planted):
    with pytest.raises(ValueError, match=r"judges dimensions on held-out rows\. Pass validation_data"):
        search(planted.fields, planted.batches(), method="autodim")


@pytest.mark.parametrize("which", ["train_data", "validation_data"])
def test_data_without_batches_are_refused(planted, which):
    data = {"train_data": planted.batches(), "validation_data": planted.batches()}
    data[which] = data[which].take(0)

    with pytest.raises(ValueError, match=f"{which} has no batches. Pass at least one batch of rows"):
        search(planted.fields, **data, method="autodim", config=SMALL_SEARCH, model_config=SMALL_MODEL)


def test_a_field_that_no_candidate_fits_is_named(planted):
    fields = [dataclasses.replace(planted.fields[0], min_dim=5, max_dim=7)]

    with pytest.raises(
        ValueError, match=r"field 'left': none of the candidates \(1, 2, 4\) is within min_dim=5 and max_dim=7"
    ):
        search(fields, planted.batches(), planted.batches(), method="autodim", config=SMALL_SEARCH)


def test_a_budget_is_refused(planted):
    with pytest.raises(ValueError, match=r"takes no parameter_budget; received 0\.5"):
        run(planted, parameter_budget=0.5)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"candidates": ()}, "a non-empty, ascending tuple of integers >= 1"),
        ({"candidates": (4, 2)}, "a non-empty, ascending tuple of integers >= 1"),
        ({"candidates": (2, 2)}, "a non-empty, ascending tuple of integers >= 1"),
        ({"candidates": (0, 2)}, "a non-empty, ascending tuple of integers >= 1"),
        ({"embeddings": "shared"}, '"sharing" or "separate"'),
        ({"transformation": "none"}, '"linear" or "padding"'),
        ({"simultaneous": 1}, "true or false"),
        ({"alpha_every": 0}, "an integer >= 1 or None"),
        ({"max_steps": 0}, "an integer >= 1 or None"),
        ({"pretrain": 1.0}, "a share < 1.0"),
        ({"annealing": -1.0}, "a number >= 0.0"),
        ({"min_temperature": 0.0}, "a number > 0.0 and <= 1.0"),
        ({"alpha_learning_rate": 0.0}, "a number > 0.0"),
    ],
)
def test_settings_out_of_range_say_what_is_expected(settings, expected):
    key = next(iter(settings))

    with pytest.raises(ValueError, match=f"AutoDimConfig: {key} must be {expected}"):
        AutoDimConfig(**settings)


def test_a_config_comes_back_from_json():
    config = AutoDimConfig(candidates=(2, 4, 8, 16), simultaneous=True, annealing=0.00005)

    assert AutoDimConfig.from_json(config.to_json()) == config
