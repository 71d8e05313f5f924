"""`growable`: every optimizer of Keras, before growth, after growth, and loaded by another process."""

import json
import pathlib
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_dimgrow import (
    DimensionSearch,
    DimGrowEmbedding,
    Field,
    GrowableAdam,
    GrowableSlots,
    GrowableVariable,
    LazyAdam,
    ModelConfig,
    build_model,
    growable,
)

V, D, WIDTH = 6, 2, 3
POSITION, KEPT = 1, [0, 2]  # where the new column comes, and where the old ones are then

CASES = {
    "sgd": ("SGD", {}),
    "sgd_momentum": ("SGD", {"momentum": 0.9}),
    "sgd_nesterov": ("SGD", {"momentum": 0.9, "nesterov": True}),
    "rmsprop": ("RMSprop", {}),
    "rmsprop_centered": ("RMSprop", {"centered": True, "momentum": 0.9}),
    "adagrad": ("Adagrad", {"initial_accumulator_value": 0.3}),
    "adadelta": ("Adadelta", {}),
    "adam": ("Adam", {}),
    "adam_amsgrad": ("Adam", {"amsgrad": True}),
    "adamw": ("AdamW", {"weight_decay": 0.1}),
    "adamax": ("Adamax", {}),
    "nadam": ("Nadam", {}),
    "lion": ("Lion", {}),
    "lamb": ("Lamb", {}),
    "ftrl": ("Ftrl", {"initial_accumulator_value": 0.3, "l2_regularization_strength": 0.01}),
    "muon": ("Muon", {}),
    "schedule_free_adamw": ("ScheduleFreeAdamW", {"warmup_steps": 3}),
}
every_optimizer = pytest.mark.parametrize(("name", "options"), CASES.values(), ids=CASES.keys())
# Keras's arithmetic on sparse gradients, that of the plain optimizers as well.
pytestmark = pytest.mark.filterwarnings("ignore:Converting sparse IndexedSlices")


def make(name: str, options, learning_rate=0.05):
    if not hasattr(keras.optimizers, name):
        pytest.skip(f"Keras {keras.__version__} has no {name}")
    return getattr(keras.optimizers, name)(learning_rate, **options)


class Training:
    """A gathered table (sparse gradients), a kernel below it, and two variables that do not grow.

    The names say "embedding" so that plain Muon, too, trains the first two by AdamW.
    """

    def __init__(self, optimizer, values, is_growable: bool):
        self.optimizer, self.num_traces = optimizer, 0
        table, kernel, hidden, bias = values
        if is_growable:
            self.table = GrowableVariable("zeros", table.shape, (1,), name="embedding_table")
            self.kernel = GrowableVariable("zeros", kernel.shape, (0,), name="embedding_kernel")
            self.table.assign(table)
            self.kernel.assign(kernel)
        else:
            self.table = keras.Variable(table, name="embedding_table")
            self.kernel = keras.Variable(kernel, name="embedding_kernel")
        self.others = [keras.Variable(hidden, name="hidden"), keras.Variable(bias, name="bias")]
        optimizer.build(self.variables)
        # Plain optimizers are what is compared with, not what is tested: a trace takes longer than their few steps.
        self._step = tf.function(self._traced_step) if is_growable else self._traced_step

    @property
    def variables(self):
        return [self.table, self.kernel, *self.others]

    @property
    def values(self):
        return [variable.numpy() for variable in self.variables]

    def _traced_step(self, ids, targets):
        self.num_traces += 1
        hidden, bias = self.others
        with tf.GradientTape() as tape:
            output = tf.gather(self.table.value, ids) @ self.kernel.value @ hidden.value + bias.value
            loss = tf.reduce_mean(tf.square(output - targets))
        self.optimizer.apply(tape.gradient(loss, [v.value for v in self.variables]), self.variables)

    def train(self, steps):
        for step in steps:
            rng = np.random.default_rng(step)
            ids = rng.integers(0, V, 5)  # with repetitions
            self._step(tf.constant(ids), tf.constant(rng.normal(size=(5, WIDTH)), tf.float32))

    def grow(self):
        rng = np.random.default_rng(99)
        for variable, axis, shape in ((self.table, 1, (V, 1)), (self.kernel, 0, (1, WIDTH))):
            new = tf.constant(rng.normal(size=shape), tf.float32)
            variable.insert(axis, POSITION, new)
            self.optimizer.insert_slots(variable, axis, POSITION, new)


def first_values():
    rng = np.random.default_rng(0)
    shapes = (V, D), (D, WIDTH), (WIDTH, WIDTH), (WIDTH,)
    return [rng.normal(size=shape).astype("float32") for shape in shapes]


def assert_all_close(actual, expected):
    for a, b in zip(actual, expected, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6, rtol=1e-5)


def keras_optimizer_at(growing: Training, name: str, options) -> Training:
    """Grows `growing`; returns the plain optimizer on the wide variables, its slots fresh in the new column."""
    narrow_state = [variable.numpy() for variable in growing.optimizer.variables]
    growing.grow()
    wide = Training(make(name, options), growing.values, is_growable=False)
    for variable, narrow in zip(wide.optimizer.variables, narrow_state, strict=True):
        value = np.array(variable.numpy())
        if narrow.shape == (V, D):
            value[:, KEPT] = narrow
        elif narrow.shape == (D, WIDTH):
            value[KEPT] = narrow
        else:
            value = narrow
        variable.assign(value)
    if name == "Nadam":  # a product over steps that Keras does not count among the optimizer's variables
        wide.optimizer._u_product.assign(growing.optimizer._u_product)
    return wide


@every_optimizer
def test_before_growth_it_is_the_keras_optimizer(name, options):
    ours = Training(growable(make(name, options)), first_values(), is_growable=True)
    plain = Training(make(name, options), first_values(), is_growable=False)

    ours.train(range(6))
    plain.train(range(6))

    assert_all_close(ours.values, plain.values)
    assert any((a != b).any() for a, b in zip(ours.values, first_values(), strict=True))


@every_optimizer
def test_after_growth_it_is_the_keras_optimizer_with_a_fresh_column_and_the_same_step(name, options):
    ours = Training(growable(make(name, options)), first_values(), is_growable=True)
    ours.train(range(4))

    wide = keras_optimizer_at(ours, name, options)
    ours.train(range(4, 10))
    wide.train(range(4, 10))

    assert ours.table.shape == (V, D + 1)
    assert ours.num_traces == 1
    assert_all_close(ours.values, wide.values)


@every_optimizer
def test_a_new_or_reset_column_of_a_slot_starts_as_keras_starts_the_slot(name, options):
    ours = Training(growable(make(name, options)), first_values(), is_growable=True)
    ours.train(range(3))
    ours.grow()
    value = 0.75
    fresh = make(name, options)
    fresh.build([keras.Variable(np.full((V, 1), value, np.float32), name="embedding_table")])
    # Behind the optimizer's own variables: its step, its learning rate.
    starts = [variable.numpy() for variable in fresh.variables if len(variable.shape) == 2]

    ours.optimizer.reset_slots(ours.table, 1, 2, value)

    for (_, slot), start in zip(ours.optimizer.slots_of(ours.table), starts, strict=True):
        np.testing.assert_array_equal(slot.numpy()[:, 2:], start)


@pytest.mark.parametrize(
    "options",
    [
        {"weight_decay": 0.1},
        {"clipnorm": 0.5},
        {"global_clipnorm": 0.5},
        {"gradient_accumulation_steps": 2},
        {"momentum": 0.9, "learning_rate": keras.optimizers.schedules.ExponentialDecay(0.1, 3, 0.5)},
        {"learning_rate": lambda: 0.03},
    ],
    ids=lambda options: "-".join(options),
)
def test_options_of_the_keras_optimizer_stay_as_they_are(options):
    options = {"learning_rate": 0.05} | options
    ours = Training(growable(keras.optimizers.SGD(**options)), first_values(), is_growable=True)
    plain = Training(keras.optimizers.SGD(**options), first_values(), is_growable=False)

    ours.train(range(6))
    plain.train(range(6))

    assert_all_close(ours.values, plain.values)


def test_exclusions_from_weight_decay_stay_which_a_copy_from_the_config_would_lose():
    optimizer = keras.optimizers.AdamW(0.05, weight_decay=0.5)
    optimizer.exclude_from_weight_decay(var_names=["embedding_table"])
    values = first_values()

    ours = Training(growable(optimizer), values, is_growable=True)
    optimizer._apply_weight_decay(ours.variables)

    np.testing.assert_array_equal(ours.values[0], values[0])
    assert (ours.values[1] != values[1]).all()


def test_a_moving_average_starts_at_the_new_values():
    ours = Training(growable(keras.optimizers.Adagrad(0.1, use_ema=True)), first_values(), is_growable=True)
    ours.train(range(3))

    ours.grow()

    average = dict(ours.optimizer.slots_of(ours.table))["average"]
    np.testing.assert_array_equal(average.numpy()[:, POSITION], ours.table.numpy()[:, POSITION])


@pytest.mark.parametrize(("make_growable", "expected"), [(GrowableAdam, 1.0 + 4.0), (LazyAdam, 9.0)])
def test_of_a_repeated_id_keras_squares_the_parts_and_lazy_adam_their_sum(make_growable, expected):
    table = GrowableVariable("zeros", (V, 1), (1,))
    optimizer = make_growable(0.1, beta_2=0.5)
    gradient = tf.IndexedSlices(tf.constant([[1.0], [2.0]]), tf.constant([3, 3]), tf.constant([V, 1]))

    optimizer.apply([gradient], [table])

    np.testing.assert_allclose(dict(optimizer.slots_of(table))["velocity"].numpy()[3], 0.5 * expected)


def test_every_optimizer_of_keras_is_growable_or_refused():
    kinds = {
        name
        for name, kind in vars(keras.optimizers).items()
        if isinstance(kind, type) and issubclass(kind, keras.optimizers.Optimizer)
    }

    assert kinds - {name for name, _ in CASES.values()} == {
        "Optimizer",
        "LossScaleOptimizer",
        "MultiOptimizer",
        "Adafactor",
    }


# What `growable` returns.


def test_it_makes_the_optimizer_itself_growable():
    optimizer = keras.optimizers.SGD(0.1, momentum=0.9, name="mine")
    config = optimizer.get_config()

    returned = growable(optimizer)

    assert returned is optimizer
    assert isinstance(returned, GrowableSlots)
    assert isinstance(returned, keras.optimizers.SGD)
    assert type(returned).__name__ == "GrowableSGD"
    assert returned.get_config() == config
    assert type(growable(keras.optimizers.SGD())) is type(returned)


def test_growable_adam_is_the_growable_of_adam():
    assert type(growable(keras.optimizers.Adam())) is GrowableAdam
    assert keras.saving.get_registered_name(GrowableAdam) == "keras_dimgrow>GrowableAdam"


@pytest.mark.parametrize("make_growable", [LazyAdam, GrowableAdam, lambda: growable(keras.optimizers.SGD())])
def test_a_growable_one_is_returned_as_it_is_built_or_not(make_growable):
    optimizer = make_growable()
    kind = type(optimizer)
    optimizer.build([keras.Variable(np.zeros(2))])

    assert growable(optimizer) is optimizer
    assert type(optimizer) is kind


def test_of_a_loss_scale_optimizer_the_inner_one_becomes_growable():
    optimizer = keras.optimizers.LossScaleOptimizer(keras.optimizers.RMSprop())

    assert growable(optimizer) is optimizer
    assert type(optimizer.inner_optimizer).__name__ == "GrowableRMSprop"


def test_an_optimizer_of_your_own_becomes_growable():
    class Mine(keras.optimizers.Adagrad):
        pass

    optimizer = growable(Mine(0.1))

    copy = keras.optimizers.deserialize(keras.optimizers.serialize(optimizer))

    assert type(copy) is type(optimizer)
    assert type(copy).__name__ == "GrowableMine"


@pytest.mark.parametrize(
    ("make_refused", "message"),
    [
        (keras.optimizers.Adafactor, r"Adafactor cannot be made growable: its slots are sums.* Use Adam, LazyAdam"),
        (
            lambda: keras.optimizers.MultiOptimizer(keras.optimizers.OptimizerMap(keras.optimizers.SGD())),
            r"MultiOptimizer cannot be made growable: .* Use one optimizer for the whole model",
        ),
        (
            lambda: keras.optimizers.SGD,
            r"takes a Keras optimizer, such as keras.optimizers.SGD\(0.1\); received <class",
        ),
        (lambda: "sgd", r"received 'sgd'\. Use keras.optimizers.get"),
    ],
    ids=["adafactor", "multi_optimizer", "class", "name"],
)
def test_what_cannot_grow_is_refused(make_refused, message):
    with pytest.raises(ValueError, match=message):
        growable(make_refused())


@pytest.mark.parametrize("wrap", [lambda o: o, keras.optimizers.LossScaleOptimizer], ids=["plain", "loss_scale"])
def test_a_built_optimizer_is_refused(wrap):
    optimizer = wrap(keras.optimizers.SGD())
    optimizer.build([keras.Variable(np.zeros(2))])

    with pytest.raises(ValueError, match=r"SGD has been built.*model.compile\(keras_dimgrow.growable\(optimizer\)"):
        growable(optimizer)


# In a model.


def make_model(optimizer):
    fields = [Field(name="a", vocabulary_size=V), Field(name="b", vocabulary_size=4)]
    layer = DimGrowEmbedding(fields, 4, seed=0, name="of_fields")
    model = build_model(layer, ModelConfig(adapter_width=4, hidden_units=(3,)), seed=0)
    model.compile(optimizer, "binary_crossentropy", run_eagerly=True)  # four steps: a trace takes longer
    return model


def fit(model, callbacks=()):
    rng = np.random.default_rng(0)
    ids = {field.name: rng.integers(0, field.vocabulary_size, 32) for field in model.embedding.fields}
    labels = rng.integers(0, 2, 32).astype("float32")
    model.fit(ids, labels, batch_size=16, verbose=0, callbacks=list(callbacks))


@pytest.mark.slow
def test_models_that_grew_load_in_a_process_that_only_imports_the_library(tmp_path: pathlib.Path):
    expected = {}
    for case, (name, options) in CASES.items():
        if not hasattr(keras.optimizers, name):
            continue
        schedule = keras.optimizers.schedules.CosineDecay(0.05, 100)
        model = make_model(growable(make(name, options, learning_rate=schedule)))
        search = DimensionSearch(model.embedding)
        fit(model, [search])
        model.embedding.grow(0, model.optimizer)
        fit(model, [search])
        model.save(tmp_path / f"{case}.keras")
        expected[case] = [f"Growable{name}", 4, [float(np.abs(v.numpy()).sum()) for v in model.optimizer.variables]]
    code = (
        "import json, pathlib, sys, keras_dimgrow, keras, numpy as np\n"
        "found = {}\n"
        "for path in pathlib.Path(sys.argv[1]).glob('*.keras'):\n"
        "    o = keras.saving.load_model(path, safe_mode=True).optimizer\n"
        "    sums = [float(np.abs(v.numpy()).sum()) for v in o.variables]\n"
        "    found[path.stem] = [type(o).__name__, int(o.iterations), sums]\n"
        "print(json.dumps(found))\n"
    )

    finished = subprocess.run([sys.executable, "-c", code, tmp_path], capture_output=True, text=True, check=False)

    assert finished.returncode == 0, finished.stderr
    assert json.loads(finished.stdout.splitlines()[-1]) == expected
