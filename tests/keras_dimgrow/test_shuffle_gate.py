"""The shuffle gate: equations (1) and (2), their gradients, theorems A.2 and A.3, and the layer ShuffleGate."""

import json

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_dimgrow import ShuffleGate
from keras_dimgrow.shuffle import SHUFFLES, cyclic_shift
from keras_dimgrow.shuffle_gate import gate_values, mix_with_shuffled

TAU = 5.0


@pytest.fixture
def s():
    return np.random.default_rng(0).normal(size=(12, 4))


@pytest.fixture
def theta():
    return np.array([-0.4, 0.0, 0.1, 1.0])


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def test_the_gate_is_the_sigmoid_of_tau_theta(theta):
    np.testing.assert_allclose(gate_values(tf.constant(theta), TAU), sigmoid(TAU * theta), rtol=1e-14)


def test_equation_1_in_float64(s, theta):
    shuffled, g = s[::-1].copy(), sigmoid(TAU * theta)

    mixed = mix_with_shuffled(tf.constant(s), tf.constant(shuffled), tf.constant(g))

    np.testing.assert_allclose(mixed, g * s + (1 - g) * shuffled, rtol=1e-13, atol=1e-15)


def test_gradients_of_equation_1_by_input_and_theta_and_none_through_the_shuffled_part(s, theta):
    weights = np.random.default_rng(1).normal(size=s.shape)
    x, t, g = tf.Variable(s), tf.Variable(theta), sigmoid(TAU * theta)

    with tf.GradientTape() as tape:
        shuffled = cyclic_shift(x, [1, 2])
        loss = tf.reduce_sum(mix_with_shuffled(x, shuffled, gate_values(t, TAU)) * weights)
    by_input, by_theta = tape.gradient(loss, [x, t])

    # d/ds = g: the shuffled rows give none back, else other rows' weights would show.
    np.testing.assert_allclose(by_input, g * weights, rtol=1e-12)
    # d/dtheta = tau g (1 - g) (s - s~).
    expected = (TAU * g * (1 - g) * (s - shuffled.numpy()) * weights).sum(0)
    np.testing.assert_allclose(by_theta, expected, rtol=1e-12)


def test_the_layer_mixes_in_training_and_multiplies_by_the_gate_in_inference(s, theta):
    layer = ShuffleGate(temperature=TAU, seed=3)
    layer.build((None, 4))
    layer.theta.assign(theta)
    g, x = sigmoid(TAU * theta), tf.constant(s, tf.float32)

    shuffled = cyclic_shift(x, [3, 0]).numpy()

    np.testing.assert_allclose(layer(x, training=True), g * s + (1 - g) * shuffled, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(layer(x, training=False), g * s, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(layer.gates, g, rtol=1e-6)


def test_equation_2_adds_alpha_times_the_sum_of_the_gates_to_the_loss_in_training_only(s, theta):
    layer = ShuffleGate(penalty=0.3, temperature=TAU)
    layer.build((None, 4))
    layer.theta.assign(theta)

    layer(tf.constant(s, tf.float32), training=True)
    assert float(sum(layer.losses)) == pytest.approx(0.3 * sigmoid(TAU * theta).sum(), rel=1e-6)

    layer(tf.constant(s, tf.float32), training=False)
    assert layer.losses == []


def test_the_gradient_of_the_penalty_is_alpha_tau_g_times_one_minus_g(s, theta):
    layer = ShuffleGate(penalty=0.3, temperature=TAU)
    layer.build((None, 4))
    layer.theta.assign(theta)

    with tf.GradientTape() as tape:
        layer(tf.constant(s, tf.float32), training=True)
        loss = sum(layer.losses)

    g = sigmoid(TAU * theta)
    np.testing.assert_allclose(tape.gradient(loss, layer.theta.value), 0.3 * TAU * g * (1 - g), rtol=1e-5)


def test_each_step_shuffles_anew_and_the_seed_repeats_the_sequence(s):
    x = tf.constant(s, tf.float32)
    sequences = []
    for seed in (1, 1, 2):
        layer = ShuffleGate(seed=seed)
        sequences.append([layer(x, training=True).numpy() for _ in range(2)])

    np.testing.assert_array_equal(sequences[0], sequences[1])
    assert (sequences[0][0] != sequences[0][1]).any()
    assert (sequences[0][0] != sequences[2][0]).any()


# Theorems of appendix A.1. The model is linear with fixed weights, so that both bounds can be computed.


def train_theta(slope: float, alpha: float, *, theta: float = 0.0, num_steps: int = 400, lr: float = 0.5):
    """Gates over gradient descent of |slope e* - slope e|, one dimension e, which is slope-non-predictive (A.1).

    The loss is 0 on the true values: shuffling costs slope * E|e - e~|.
    """
    e = tf.constant(np.random.default_rng(0).normal(size=(256, 1)))
    t = tf.Variable([theta], dtype=tf.float64)

    @tf.function
    def train_step(step):
        with tf.GradientTape() as tape:
            g = gate_values(t, TAU)
            mixed = mix_with_shuffled(e, cyclic_shift(e, tf.stack([0, step])), g)
            loss = tf.reduce_mean(tf.abs(slope * (mixed - e))) + alpha * tf.reduce_sum(g)
        t.assign_sub(lr * tape.gradient(loss, t))
        return g[0]

    return np.array([float(train_step(step)) for step in tf.range(num_steps)])


def expected_distance() -> float:
    """E |e - e~| of the data of `train_theta` under cyclic shifts: the mean over all other rows."""
    e = np.random.default_rng(0).normal(size=256)
    return np.abs(e[:, None] - e[None, :]).sum() / (256 * 255)


@pytest.mark.parametrize("theta", [-0.2, 0.0, 0.4])
def test_theorem_a2_a_non_predictive_dimension_closes_when_alpha_exceeds_its_bound(theta):
    epsilon = 0.05
    bound = epsilon * expected_distance()

    gates = train_theta(epsilon, 2.0 * bound, theta=theta, num_steps=3000, lr=1.0)

    assert gates[-1] < 0.02
    assert gates[-1] < gates[len(gates) // 2] < gates[0]


@pytest.mark.parametrize("theta", [-0.2, 0.0, 0.4])
def test_theorem_a3_a_predictive_dimension_opens_when_alpha_is_below_the_loss_of_shuffling_it(theta):
    slope = 0.5
    increase = slope * expected_distance()  # L(e~) - L(e), and L(e) = 0

    gates = train_theta(slope, 0.5 * increase, theta=theta)

    assert gates[-1] > 0.98
    assert gates[-1] > gates[50] > gates[0]


@pytest.mark.parametrize(("factor", "direction"), [(1.1, -1), (0.9, 1)])
def test_the_two_bounds_meet_where_the_loss_is_linear_in_the_gate(factor, direction):
    # With |.| both theorems are tight: alpha 10% above or below the same number closes or opens the gate.
    gates = train_theta(0.5, factor * 0.5 * expected_distance(), num_steps=200, lr=0.2)

    assert np.sign(gates[-1] - gates[0]) == direction


def test_theorem_a3_holds_for_log_loss_of_a_logistic_model():
    rng = np.random.default_rng(0)
    e = rng.normal(size=(2048, 1))
    y = (rng.random((2048, 1)) < sigmoid(3 * e)).astype(float)

    def log_loss(x):
        return tf.reduce_mean(tf.nn.sigmoid_cross_entropy_with_logits(tf.constant(y), 3.0 * x))

    increase = np.mean([log_loss(cyclic_shift(tf.constant(e), [1, i])) - log_loss(tf.constant(e)) for i in range(20)])
    t = tf.Variable([0.0], dtype=tf.float64)
    with tf.GradientTape() as tape:
        shuffled = cyclic_shift(tf.constant(e), [0, 0])
        g = gate_values(t, TAU)
        loss = log_loss(mix_with_shuffled(tf.constant(e), shuffled, g)) + 0.9 * increase * tf.reduce_sum(g)

    # A convex loss is steeper than its chord up to some gate only (at g = 1 its slope is 0): the theorem speaks of the
    # start of the search, g = 1/2.
    assert float(tape.gradient(loss, t)[0]) < 0


# The layer in models.


def make_selector(seed: int = 0) -> keras.Model:
    inputs = keras.Input((6,))
    gate = ShuffleGate(penalty=0.02, seed=seed, name="gate")
    initializer = keras.initializers.GlorotUniform(seed=seed)
    outputs = keras.layers.Dense(1, "sigmoid", kernel_initializer=initializer)(gate(inputs))
    model = keras.Model(inputs, outputs)
    model.compile(keras.optimizers.Adam(0.02), "binary_crossentropy")
    return model


def test_it_selects_the_features_that_matter():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2048, 6)).astype("float32")
    y = (rng.random(2048) < sigmoid(3 * x[:, 1] - 3 * x[:, 4])).astype("float32")
    model = make_selector()

    model.fit(x, y, batch_size=128, epochs=12, verbose=0)

    gates = model.get_layer("gate").gates.numpy()
    assert gates[[1, 4]].min() > 0.9
    assert gates[[0, 2, 3, 5]].max() < 0.1


# Gates by field.


@pytest.mark.parametrize("shuffle", ["cyclic", "permutation"])
def test_with_field_sizes_equation_1_holds_for_each_field(s, shuffle):
    layer = ShuffleGate(shuffle=shuffle, seed=3, field_sizes=[1, 3])
    layer.build((None, 4))
    layer.theta.assign([-0.2, 0.3])
    x, g = tf.constant(s, tf.float32), sigmoid(TAU * np.array([-0.2, 0.3, 0.3, 0.3]))

    shuffled = SHUFFLES[shuffle](x, [3, 0], tf.constant([0, 1, 1, 1])).numpy()

    np.testing.assert_allclose(layer(x, training=True), g * s + (1 - g) * shuffled, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(layer(x, training=False), g * s, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(layer.gates, g[:2], rtol=1e-6)
    # The rows of field 1 are rows of the batch, one moved as a whole.
    assert {tuple(row) for row in shuffled[:, 1:]} == {tuple(row) for row in x.numpy()[:, 1:]}


def test_with_field_sizes_the_penalty_counts_fields_not_columns(s):
    layer = ShuffleGate(penalty=0.3, field_sizes=[1, 3])
    layer.build((None, 4))
    layer.theta.assign([-0.2, 0.3])

    layer(tf.constant(s, tf.float32), training=True)

    assert float(sum(layer.losses)) == pytest.approx(0.3 * sigmoid(TAU * np.array([-0.2, 0.3])).sum(), rel=1e-6)


@pytest.mark.parametrize("sizes", [[1, 3], (1, 3), np.array([1, 3])])
def test_field_sizes_are_kept_in_the_config(sizes):
    layer = ShuffleGate(seed=5, field_sizes=sizes)

    copy = ShuffleGate.from_config(json.loads(json.dumps(layer.get_config())))

    assert copy.field_sizes == layer.field_sizes == (1, 3)


@pytest.mark.parametrize("sizes", [[], [2, 0], [-1, 3]])
def test_field_sizes_that_are_not_positive_are_refused(sizes):
    with pytest.raises(ValueError, match="field_sizes must be positive integers; received"):
        ShuffleGate(field_sizes=sizes)


def test_field_sizes_of_another_width_are_refused():
    with pytest.raises(ValueError, match=r"field_sizes \[1, 3\] have 4 columns; received input of shape \(None, 5\)"):
        ShuffleGate(field_sizes=[1, 3]).build((None, 5))


def test_it_selects_the_one_hot_fields_that_matter():
    rng = np.random.default_rng(0)
    ids = rng.integers(0, [3, 5, 4], (4096, 3))
    x = np.concatenate([np.eye(size)[ids[:, i]] for i, size in enumerate((3, 5, 4))], axis=1).astype("float32")
    effects = np.array([-2.0, 2.0, -2.0, 2.0, 0.0])
    y = (rng.random(4096) < sigmoid(effects[ids[:, 1]])).astype("float32")
    gate = ShuffleGate(penalty=0.01, seed=0, field_sizes=[3, 5, 4])
    model = keras.Sequential([keras.Input((12,)), gate, keras.layers.Dense(1, "sigmoid")])
    model.compile(keras.optimizers.Adam(0.02), "binary_crossentropy")

    model.fit(x, y, batch_size=128, epochs=8, verbose=0)

    gates = gate.gates.numpy()
    assert gates[1] > 0.9
    assert gates[[0, 2]].max() < 0.1


def test_masks_pass_through(s):
    x = tf.constant(s, tf.float32)
    x._keras_mask = tf.constant([True] * len(s))

    assert ShuffleGate()(x)._keras_mask is x._keras_mask


def test_it_fits_under_xla():
    model = keras.Sequential([keras.Input((4,)), ShuffleGate(seed=0, field_sizes=[1, 3]), keras.layers.Dense(1)])
    model.compile("adam", "mse", jit_compile=True)
    x = np.random.default_rng(0).normal(size=(1024, 4)).astype("float32")

    history = model.fit(x, x[:, 0], batch_size=1024, verbose=0).history

    assert np.isfinite(history["loss"]).all()


# The layer in models.


def test_a_saved_model_gives_the_same_predictions_and_goes_on_shuffling_where_it_was(tmp_path):
    x = np.random.default_rng(0).normal(size=(64, 6)).astype("float32")
    y = (x[:, 0] > 0).astype("float32")
    model = make_selector()
    model.fit(x, y, epochs=1, verbose=0, shuffle=False)
    model.save(tmp_path / "model.keras")

    loaded = keras.saving.load_model(tmp_path / "model.keras")

    np.testing.assert_array_equal(loaded.predict(x, verbose=0), model.predict(x, verbose=0))
    losses = [m.fit(x, y, epochs=1, verbose=0, shuffle=False).history["loss"] for m in (loaded, model)]
    np.testing.assert_allclose(*losses, rtol=1e-6)


def test_its_config_makes_an_equal_layer():
    layer = ShuffleGate(penalty=0.1, temperature=2.0, shuffle="permutation", seed=5, name="gate")

    assert ShuffleGate.from_config(layer.get_config()).get_config() == layer.get_config()


def test_without_a_seed_the_one_drawn_is_kept_in_the_config():
    layer = ShuffleGate()

    assert ShuffleGate.from_config(layer.get_config()).seed == layer.seed


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_under_mixed_precision_it_computes_low_and_keeps_gates_and_penalty_in_float32(policy):
    layer = ShuffleGate(penalty=1e-4, dtype=policy)

    outputs = layer(np.ones((4, 3), "float32"), training=True)

    assert outputs.dtype == layer.compute_dtype
    assert layer.theta.dtype == "float32"
    assert layer.losses[0].dtype == "float32"
    np.testing.assert_allclose(outputs, np.ones((4, 3)))


def test_it_compiles_with_xla():
    layer = ShuffleGate(seed=0)
    x = tf.constant(np.random.default_rng(0).normal(size=(8, 3)), tf.float32)
    layer.build((None, 3))
    expected = layer(x, training=True)
    layer.shuffle_seed.assign([0, 0])

    np.testing.assert_allclose(tf.function(lambda: layer(x, training=True), jit_compile=True)(), expected, rtol=1e-5)


@pytest.mark.parametrize("shape", [(None, None), (None, 3, 2), (None,)])
def test_it_refuses_inputs_that_are_no_matrix_of_known_width(shape):
    with pytest.raises(ValueError, match=r"ShuffleGate needs input of shape \[B, D\] with D known; received"):
        ShuffleGate().build(shape)


def test_it_refuses_an_unknown_shuffle():
    with pytest.raises(ValueError, match=r"shuffle must be one of \['cyclic', 'permutation'\]; received 'riffle'"):
        ShuffleGate(shuffle="riffle")
