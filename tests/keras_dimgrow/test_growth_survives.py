"""Growth survives what training does to a model: its options, kills, restores and Ctrl-C.

Each run, with growths and drops in it, is compared with one without: the same model of ordinary variables that is
widened by hand, or the same fit left alone.
"""

import functools
import json
import signal
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_dimgrow import (
    DimensionSearch,
    DimGrowEmbedding,
    Field,
    GateConfig,
    GrowableAdam,
    GrowableVariable,
    GrowthConfig,
    LazyAdam,
)
from keras_dimgrow.penalty import penalty_weights

# So small that every batch touches every row: LazyAdam is then Adam.
FIELDS = (
    Field(name="left", vocabulary_size=5),
    Field(name="noise", vocabulary_size=4),
    Field(name="right", vocabulary_size=6),
)
WIDTH = 4
STDDEV = 0.1
# Thresholds so near one half that dimensions come and go within 60 steps.
LIVELY = GrowthConfig(grow_threshold=0.51, shrink_threshold=0.49, backoff_checks=1, revive_after_checks=2)
STEPS_PER_EPOCH, EPOCHS, CHECK_EVERY = 20, 3, 5


def rows(num_rows: int = 1920):
    rng = np.random.default_rng(0)
    ids = {field.name: rng.integers(0, field.vocabulary_size, num_rows).astype(np.int32) for field in FIELDS}
    return ids, ((ids["left"] + ids["right"]) % 2).astype(np.float32), rng.uniform(0.5, 1.5, num_rows)


def batches(has_weights: bool = False) -> tf.data.Dataset:
    """20 batches of 96 rows, the same in each pass."""
    return tf.data.Dataset.from_tensor_slices(rows() if has_weights else rows()[:2]).batch(96)


def make_model(optimizer=None, layer_type=DimGrowEmbedding, layer_options=None, **compile_options) -> keras.Model:
    layer = layer_type(
        FIELDS, WIDTH, gate=GateConfig(penalty=3e-3), stddev=STDDEV, seed=1, name="embedding", **(layer_options or {})
    )
    inputs = {field.name: keras.Input((), dtype="int32", name=field.name) for field in FIELDS}
    initializer = keras.initializers.RandomNormal(seed=2)
    outputs = keras.layers.Dense(1, "sigmoid", kernel_initializer=initializer, name="head", dtype="float32")(
        layer(inputs)
    )
    model = keras.Model(inputs, outputs)
    model.compile(LazyAdam(2e-2) if optimizer is None else optimizer, "binary_crossentropy", **compile_options)
    return model


def search_in(model: keras.Model, **options) -> DimensionSearch:
    return DimensionSearch(model.get_layer("embedding"), LIVELY, **({"check_every": CHECK_EVERY} | options))


def actions_of(trajectory) -> list[str]:
    return [event["action"] for record in trajectory for event in record["events"]]


# Against ordinary variables, widened by hand.


class FixedEmbedding(DimGrowEmbedding):
    """The layer over Keras's own variables, of fixed shapes."""

    def __init__(self, *args, dims, **kwargs):
        super().__init__(*args, **kwargs)
        self.dims = dims

    def build(self, input_shape):
        self.tables = [
            self.add_weight(autocast=False, shape=(field.vocabulary_size, dim), name=f"table_{index}")
            for index, (field, dim) in enumerate(zip(self.fields, self.dims, strict=True))
        ]
        total = sum(self.dims)
        self.kernel = self.add_weight(autocast=False, shape=(total, self.adapter_width), name="kernel")
        self.theta = self.add_weight(autocast=False, shape=(total,), name="theta")
        self.mask = self.add_weight(autocast=False, shape=(total,), trainable=False, name="mask")
        self.penalty_weights = self.add_weight(autocast=False, shape=(total,), trainable=False, name="penalty_weights")
        self.shuffle_seed = self.add_weight(
            autocast=False, shape=(2,), dtype="int32", trainable=False, name="shuffle_seed"
        )


class ByHand:
    """Trains a model of fixed shapes, and puts a wider one with the same values in its place where a field grows."""

    def __init__(self, make_optimizer, first: keras.Model):
        self.make_optimizer = make_optimizer
        self.weights = {variable.path: variable.numpy() for variable in first.variables}
        self.slots: list = []
        self.masks = [np.ones(1) for _ in FIELDS]
        self._build()

    def _build(self):
        dims = [len(mask) for mask in self.masks]
        self.model = make_model(self.make_optimizer(), FixedEmbedding, {"dims": dims}, run_eagerly=True)
        self.model.optimizer.build(self.model.trainable_variables)
        for variable in self.model.variables:
            variable.assign(self.weights[variable.path])
        for variable, (_, values) in zip(self.model.optimizer.variables, self.slots, strict=bool(self.slots)):
            variable.assign(values)

    def _read(self):
        self.weights = {variable.path: variable.numpy() for variable in self.model.variables}
        self.slots = [[variable.name, variable.numpy()] for variable in self.model.optimizer.variables]

    def step(self, batch, class_weight=None) -> float:
        self.model.reset_metrics()
        return self.model.train_on_batch(*batch, class_weight=class_weight, return_dict=True)["loss"]

    def act(self, events):
        self._read()
        names = [field.name for field in FIELDS]
        for event in events:
            index = names.index(event["field"])
            mask, start = self.masks[index], sum(len(mask) for mask in self.masks[:index])
            if event["action"] == "drop":
                theta = self.weights["embedding/theta"][start : start + len(mask)]
                mask[np.argmin(np.where(mask > 0, theta, np.inf))] = 0
            elif (mask == 0).any():
                self._reset_gate(start + int(np.argmin(mask)))
                mask[np.argmin(mask)] = 1
            else:
                self._insert(index, start + len(mask))
                self.masks[index] = np.append(mask, 1.0)
            self.weights["embedding/mask"] = np.concatenate(self.masks)
        sizes = [field.vocabulary_size for field in FIELDS]
        self.weights["embedding/penalty_weights"] = penalty_weights(self.masks, sizes, GateConfig().cost_exponent)
        self._build()

    def _of(self, name):
        """Slots of the variable `name`, each with whether it is a moving average of the variable."""
        return [(slot, "average" in slot[0]) for slot in self.slots if slot[0].startswith(f"embedding_{name}_")]

    def _reset_gate(self, position):
        for values in (self.weights["embedding/theta"], *(slot[1] for slot, _ in self._of("theta"))):
            values[position] = 0

    def _insert(self, index, position):
        column = len(self.masks[index])
        seeds = [[1, index * 65536 + column], [2, index * 65536 + column]]
        values = tf.random.stateless_normal([FIELDS[index].vocabulary_size, 1], seeds[0], stddev=STDDEV).numpy()
        row = tf.random.stateless_normal([1, WIDTH], seeds[1], stddev=STDDEV).numpy()
        for name, axis, at, new in (
            (f"table_{index}", 1, [column], values),
            ("kernel", 0, [position], row),
            ("theta", 0, [position], [0.0]),
        ):
            path = f"embedding/{name}"
            self.weights[path] = np.insert(self.weights[path], at, new, axis)
            for slot, is_average in self._of(name):
                slot[1] = np.insert(slot[1], at, new if is_average else np.zeros_like(new), axis)


class DenseAdam(keras.optimizers.Adam):
    """Keras's Adam, which squares each of a row's slices before it adds them up unless they are added before."""

    def update_step(self, gradient, variable, learning_rate):
        super().update_step(tf.convert_to_tensor(gradient), variable, learning_rate)


def adam(kind, **options):
    """The optimizer under test and Keras's own with the same options."""
    options = {"learning_rate": 2e-2} | options
    is_summed = kind is LazyAdam and not options.get("amsgrad")
    return functools.partial(kind, **options), functools.partial(
        DenseAdam if is_summed else keras.optimizers.Adam, **options
    )


SCHEDULE = keras.optimizers.schedules.ExponentialDecay(2e-2, 10, 0.9)
OPTIONS = {
    "nothing": (adam(LazyAdam), {}, {}),
    "dense": (adam(GrowableAdam), {}, {}),
    "amsgrad and schedule": (adam(LazyAdam, amsgrad=True, learning_rate=SCHEDULE), {}, {}),
    "clipvalue and weight decay": (adam(LazyAdam, clipvalue=1e-3, weight_decay=0.1), {}, {}),
    "clipnorm and class weight": (adam(LazyAdam, clipnorm=1e-2), {}, {"class_weight": {0: 0.5, 1: 2.0}}),
    "global clipnorm and validation": (
        adam(LazyAdam, global_clipnorm=1e-2),
        {},
        {"validation_data": batches().take(3)},
    ),
    "average": (adam(LazyAdam, use_ema=True, ema_momentum=0.9), {}, {}),
    "average put back": (adam(LazyAdam, use_ema=True, ema_momentum=0.5, ema_overwrite_frequency=7), {}, {}),
    "accumulation": (adam(LazyAdam, gradient_accumulation_steps=3), {}, {}),
    "executions of 5": (adam(LazyAdam), {"steps_per_execution": 5}, {}),
    "mixed_bfloat16": (adam(LazyAdam), {}, {}),
    "mixed_float16": (adam(LazyAdam), {}, {}),
    "sample weight": (adam(LazyAdam), {}, {}),
}


@pytest.fixture
def dtype_policy(request):
    keras.config.set_dtype_policy(request.param)
    yield request.param
    keras.config.set_dtype_policy("float32")


@pytest.mark.parametrize(
    ("name", "dtype_policy"),
    [(name, name if name.startswith("mixed") else "float32") for name in OPTIONS],
    indirect=["dtype_policy"],
    ids=OPTIONS,
)
@pytest.mark.filterwarnings("ignore:Converting sparse IndexedSlices")
def test_training_with_growth_equals_training_widened_by_hand_and_traces_once(name, dtype_policy, monkeypatch):
    (make_optimizer, make_plain), compile_options, fit_options = OPTIONS[name]
    data = batches(has_weights=name == "sample weight").repeat()
    steps_per_epoch = 20 if name == "accumulation" else 15  # a field has grown, and was trained after that
    traces, traces_at_checks = [], []
    original = DimGrowEmbedding.call

    @functools.wraps(original)
    def call(self, inputs, training=None):
        if training:
            traces.append(training)
        return original(self, inputs, training)

    model = make_model(make_optimizer(), **compile_options)
    by_hand = ByHand(make_plain, model)
    growth = search_in(model, on_check=lambda record: traces_at_checks.append(len(traces)))
    with monkeypatch.context() as patch:
        patch.setattr(DimGrowEmbedding, "call", call)
        model.fit(data, epochs=2, steps_per_epoch=steps_per_epoch, callbacks=[growth], verbose=0, **fit_options)

    assert {"grow", "drop"} <= set(actions_of(growth.trajectory))
    assert {*traces_at_checks, len(traces)} == {traces_at_checks[0]}
    source = data.as_numpy_iterator()
    tolerance = 1e-6 if dtype_policy == "float32" else 1e-3
    for record in growth.trajectory:
        losses = [by_hand.step(next(source), fit_options.get("class_weight")) for _ in range(CHECK_EVERY)]
        assert record["loss"] == pytest.approx(np.mean(losses), abs=tolerance)
        if record["events"]:
            by_hand.act(record["events"])
    by_hand.model.optimizer.finalize_variable_values(by_hand.model.trainable_variables)
    weights = {variable.path: variable.numpy() for variable in model.variables}
    for variable in by_hand.model.variables:
        np.testing.assert_allclose(weights[variable.path], variable.numpy(), atol=20 * tolerance, err_msg=variable.path)


@pytest.mark.parametrize("dtype_policy", ["mixed_float16"], indirect=True)
def test_steps_do_not_go_back_where_a_loss_scale_skips_updates(dtype_policy):
    model = make_model(keras.optimizers.LossScaleOptimizer(LazyAdam(2e-2), initial_scale=2.0**30))
    growth = search_in(model)

    fit(model, [growth])

    assert int(model.optimizer.iterations) < EPOCHS * STEPS_PER_EPOCH
    steps = [record["step"] for record in growth.trajectory]
    assert steps == sorted(set(steps))
    assert {"grow", "drop"} <= set(actions_of(growth.trajectory))


# Kills and restores, against the same fit left alone.


class KilledError(Exception):
    """Stands for the end of the process."""


class Kill(keras.callbacks.Callback):
    """Ends the fit before a batch, or at an epoch's end."""

    def __init__(self, epoch: int, batch: int | None = None, error: type[BaseException] = KilledError):
        super().__init__()
        self.epoch, self.batch, self.error = epoch, batch, error
        self.present_epoch = 0

    def on_epoch_begin(self, epoch, logs=None):
        self.present_epoch = epoch

    def on_train_batch_begin(self, batch, logs=None):
        if (self.present_epoch, batch) == (self.epoch, self.batch):
            raise self.error

    def on_epoch_end(self, epoch, logs=None):
        if epoch == self.epoch and self.batch is None:
            raise self.error


def fit(model, callbacks, data=None, epochs=EPOCHS, **options) -> dict[str, list[float]]:
    data = batches() if data is None else data
    return model.fit(data, epochs=epochs, callbacks=callbacks, verbose=0, **options).history


@functools.cache
def left_alone(check_every: int):
    """Model, trajectory and history of a fit of three epochs that nothing disturbs."""
    model = make_model()
    growth = search_in(model, check_every=check_every)
    history = fit(model, [growth])
    assert {"grow", "drop"} <= set(actions_of(growth.trajectory[: len(growth.trajectory) // 2]))
    assert {"grow", "drop"} <= set(actions_of(growth.trajectory[len(growth.trajectory) // 2 :]))
    return model, growth.trajectory, history


def assert_same_model(model, expected):
    """All variables, those of the optimizer and of the policy included, and so the plan."""
    pairs = zip(
        [*model.variables, *model.optimizer.variables],
        [*expected.variables, *expected.optimizer.variables],
        strict=True,
    )
    for variable, other in pairs:
        np.testing.assert_allclose(variable.numpy(), other.numpy(), atol=1e-6, err_msg=other.path)
    assert model.get_layer("embedding").plan() == expected.get_layer("embedding").plan()


def assert_fits_together(model):
    """The layer's variables and the optimizer's slots have the same dimensions."""
    layer, optimizer = model.get_layer("embedding"), model.optimizer
    total = sum(layer.allocated_dims)
    for variable in (layer.theta, layer.mask, layer.penalty_weights):
        assert tuple(variable.shape) == (total,)
    assert tuple(layer.kernel.shape) == (total, WIDTH)
    for variable in (*layer.tables, layer.kernel, layer.theta):
        assert {tuple(slot.shape) for _, slot in optimizer.slots_of(variable)} == {tuple(variable.shape)}


def assert_same_checks(trajectories, expected):
    """Together the trajectories have the checks of `expected`; a repeated one, that of a restored model, is the same."""
    keys = ("dimensions", "gates", "events", "parameters", "table_bytes")
    checks = {record["step"]: {key: record[key] for key in keys} for record in expected}
    assert {record["step"] for trajectory in trajectories for record in trajectory} == checks.keys()
    for record in (record for trajectory in trajectories for record in trajectory):
        assert {key: record[key] for key in keys} == checks[record["step"]]


def kill_at(step: int):
    def on_check(record):
        if record["step"] == step:
            raise KilledError

    return on_check


@pytest.mark.parametrize(
    ("check_every", "on_check", "arrange"),
    [
        (7, None, lambda search, backup: [search, backup, Kill(epoch=1, batch=13)]),
        (7, kill_at(28), lambda search, backup: [backup, search]),
        (5, None, lambda search, backup: [Kill(epoch=1), search, backup]),
        (5, None, lambda search, backup: [backup, Kill(epoch=1), search]),
    ],
    ids=["inside an epoch", "in a check", "at an epoch's end", "between the backup and the check of its step"],
)
def test_a_fit_killed_and_restored_by_backup_and_restore_equals_one_left_alone(
    tmp_path, check_every, on_check, arrange
):
    expected, trajectory, history = left_alone(check_every)
    killed, restored = make_model(), make_model()
    first, second = (search_in(model, check_every=check_every) for model in (killed, restored))
    first.on_check = on_check
    with pytest.raises(KilledError):
        fit(killed, arrange(first, keras.callbacks.BackupAndRestore(tmp_path)))
    again = [
        callback
        for callback in arrange(second, keras.callbacks.BackupAndRestore(tmp_path))
        if not isinstance(callback, Kill)
    ]

    rest = fit(restored, again)

    assert_same_model(restored, expected)
    assert_same_checks([first.trajectory, second.trajectory], trajectory)
    epochs = len(rest["loss"])
    assert 0 < epochs < EPOCHS
    assert rest["loss"] == pytest.approx(history["loss"][-epochs:], abs=1e-6)
    assert rest["dimensions/right"] == history["dimensions/right"][-epochs:]


def test_a_backup_amid_an_epoch_is_exact_but_keras_trains_that_epoch_from_its_first_batch_again(tmp_path):
    def backup():
        return keras.callbacks.BackupAndRestore(tmp_path, save_freq=12)

    killed = make_model()
    with pytest.raises(KilledError):
        fit(killed, [search_in(killed), backup(), Kill(epoch=1, batch=13)])
    by_hand, restored = make_model(), make_model()
    by_hand.optimizer.build(by_hand.trainable_variables)
    by_hand.load_weights(tmp_path / "latest.weights.h5")
    step = int(by_hand.optimizer.iterations)
    assert STEPS_PER_EPOCH < step < STEPS_PER_EPOCH + 13
    growths = [search_in(model) for model in (by_hand, restored)]

    fit(by_hand, [growths[0]], initial_epoch=1)
    fit(restored, [growths[1], backup()])

    assert int(restored.optimizer.iterations) == step + 2 * STEPS_PER_EPOCH
    assert [record["step"] for record in growths[1].trajectory] == [*range(25, 65, 5)]
    assert_same_model(restored, by_hand)


@pytest.mark.parametrize("dtype_policy", ["float32", "mixed_float16"], indirect=True)
def test_a_fit_killed_and_restored_by_a_checkpoint_manager_at_any_batch_equals_one_left_alone(tmp_path, dtype_policy):
    class Save(keras.callbacks.Callback):
        def on_train_batch_begin(self, batch, logs=None):
            if batch % 9 == 0:
                manager_of(self.model).save()

    def manager_of(model):
        return tf.train.CheckpointManager(tf.train.Checkpoint(model=model), tmp_path, max_to_keep=2)

    expected, killed, restored = models = [make_model() for _ in range(3)]
    growths = [search_in(model, check_every=7) for model in models]
    steps, data = EPOCHS * STEPS_PER_EPOCH, batches().repeat()
    fit(expected, [growths[0]], data, epochs=1, steps_per_epoch=steps)
    with pytest.raises(KilledError):
        fit(killed, [growths[1], Save(), Kill(0, 40)], data, epochs=1, steps_per_epoch=steps)

    restored.optimizer.build(restored.trainable_variables)
    manager_of(restored).restore_or_initialize()
    step = int(restored.optimizer.iterations)
    fit(restored, [growths[2]], data.skip(step), epochs=1, steps_per_epoch=steps - step)

    assert step == 36
    assert_same_model(restored, expected)
    assert_same_checks([growths[1].trajectory, growths[2].trajectory], growths[0].trajectory)
    assert {"grow", "drop"} <= set(actions_of(growths[2].trajectory))


def test_a_loop_of_ones_own_restored_from_a_checkpoint_equals_fit(tmp_path):
    def train(model, growth, first, last):
        callbacks = keras.callbacks.CallbackList([growth], model=model)
        callbacks.on_train_begin()
        callbacks.on_epoch_begin(0)
        for number, batch in enumerate(batches().repeat().skip(first).take(last - first)):
            callbacks.on_train_batch_begin(number)
            model.train_on_batch(*batch)
        callbacks.on_epoch_end(0)

    expected, trajectory, _ = left_alone(7)
    killed, restored = make_model(), make_model()
    first, second = (search_in(model, check_every=7) for model in (killed, restored))
    train(killed, first, 0, 33)
    path = tf.train.Checkpoint(model=killed).write(tmp_path / "checkpoint")
    restored.optimizer.build(restored.trainable_variables)
    tf.train.Checkpoint(model=restored).read(path).assert_consumed()

    train(restored, second, 33, EPOCHS * STEPS_PER_EPOCH)

    assert_same_model(restored, expected)
    assert_same_checks([first.trajectory, second.trajectory], trajectory)


@pytest.mark.parametrize("dtype_policy", ["float32", "mixed_float16"], indirect=True)
def test_a_second_fit_of_the_same_or_a_loaded_model_equals_one_fit(tmp_path, dtype_policy):
    once, twice = make_model(), make_model()
    growth, first = search_in(once, check_every=7), search_in(twice, check_every=7)
    fit(once, [growth])
    fit(twice, [first], epochs=2)
    twice.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    second = search_in(loaded, check_every=7)

    fit(loaded, [second], initial_epoch=2)
    fit(twice, [first], initial_epoch=2)

    assert_same_model(twice, once)
    assert_same_model(loaded, once)
    assert_same_checks([first.trajectory], growth.trajectory)
    assert [record["step"] for record in second.trajectory] == [42, 49, 56]
    assert {"grow", "drop"} <= set(actions_of(second.trajectory))


RESUME = """
import json, keras, sys
import tests.conftest
from tests.keras_dimgrow.test_growth_survives import fit, search_in
model = keras.saving.load_model(sys.argv[1], safe_mode=True)
growth = search_in(model, check_every=7)
history = fit(model, [growth], initial_epoch=2)
print(json.dumps([history["loss"], growth.trajectory[-1]["dimensions"]]))
"""


def test_a_saved_model_goes_on_in_another_process_in_safe_mode(tmp_path):
    _, trajectory, history = left_alone(7)
    model = make_model()
    fit(model, [search_in(model, check_every=7)], epochs=2)
    model.save(tmp_path / "model.keras")

    finished = subprocess.run(
        [sys.executable, "-c", RESUME, str(tmp_path / "model.keras")],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=False,
    )

    assert finished.returncode == 0, finished.stderr
    loss, dimensions = json.loads(finished.stdout.splitlines()[-1])
    assert loss == pytest.approx(history["loss"][2:], abs=1e-6)
    assert dimensions == trajectory[-1]["dimensions"]


def made_again(_: keras.Model) -> keras.Model:
    model = make_model()
    # Keras loads the optimizer's variables too, and only into ones that exist.
    model.optimizer.build(model.trainable_variables)
    return model


@pytest.mark.parametrize(
    "fresh",
    [
        made_again,
        keras.models.clone_model,
        lambda model: keras.Model.from_config(model.get_config()),
    ],
    ids=["made again", "cloned", "from its config"],
)
def test_a_grown_models_weights_load_into_a_fresh_one(tmp_path, fresh):
    model, trajectory, _ = left_alone(5)
    model.save_weights(tmp_path / "model.weights.h5")
    other = fresh(model)
    assert other.get_layer("embedding").allocated_dims == [1, 1, 1]

    other.load_weights(tmp_path / "model.weights.h5")

    assert other.get_layer("embedding").used_dims() == list(trajectory[-1]["dimensions"].values())
    inputs = rows()[0]
    np.testing.assert_array_equal(other.predict(inputs, verbose=0), model.predict(inputs, verbose=0))


# Ctrl-C.


@pytest.mark.parametrize("step", [5, 20, 34])
def test_a_fit_after_ctrl_c_at_any_batch_goes_on_as_if_it_had_not_been(step):
    expected, trajectory, _ = left_alone(5)
    model = make_model()
    growth = search_in(model)
    epoch, batch = divmod(step, STEPS_PER_EPOCH)

    with pytest.raises(KeyboardInterrupt):
        fit(model, [growth, Kill(epoch, batch, KeyboardInterrupt)])
    assert_fits_together(model)
    assert int(model.optimizer.iterations) == step
    rest = batches().repeat().skip(step)
    fit(model, [growth], rest, epochs=1, steps_per_epoch=EPOCHS * STEPS_PER_EPOCH - step)

    assert_same_model(model, expected)
    assert_same_checks([growth.trajectory], trajectory)


@pytest.fixture
def _ctrl_c_is_heard():
    """SIGINT raises KeyboardInterrupt, though shells and test runners take that from processes in the background."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("_ctrl_c_is_heard")
@pytest.mark.parametrize("number", [1, 4])
def test_ctrl_c_amid_a_growth_waits_until_variables_and_slots_fit_each_other(number, monkeypatch):
    expected = left_alone(5)[0]
    inserts = []
    original = GrowableVariable.insert

    def insert(self, axis, position, values):
        original(self, axis, position, values)
        inserts.append(self.path)
        if len(inserts) == number:
            signal.raise_signal(signal.SIGINT)

    model = make_model()
    growth = search_in(model)
    with monkeypatch.context() as patch:
        patch.setattr(GrowableVariable, "insert", insert)
        with pytest.raises(KeyboardInterrupt):
            fit(model, [growth])
    assert len(inserts) >= 9  # table, kernel, gates and two slots of each
    assert_fits_together(model)
    step = int(model.optimizer.iterations)
    rest = batches().repeat().skip(step)
    fit(model, [growth], rest, epochs=1, steps_per_epoch=EPOCHS * STEPS_PER_EPOCH - step)

    assert_same_model(model, expected)
