"""The backbones: against NumPy, over plans and under search, saved, in half precision, with one field."""

import itertools

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_dimgrow import (
    DCN,
    DLRM,
    FM,
    IPNN,
    NFM,
    AutoInt,
    DeepFM,
    DimensionSearch,
    DimGrowEmbedding,
    EmbeddingPlan,
    Field,
    GateConfig,
    GrowthConfig,
    LazyAdam,
    ModelConfig,
    PlannedEmbedding,
    WideDeep,
    build_model,
)
from keras_dimgrow.models import BACKBONES
from keras_dimgrow.models.autoint import InteractingLayer
from keras_dimgrow.models.interactions import pair_products, pool_pairs, sum_pair_products

B, F, WIDTH = 6, 4, 3
DEEP = sorted(set(BACKBONES) - {"fm"})
FIELDS = tuple(Field(name=name, vocabulary_size=size) for name, size in zip("abcde", (5, 9, 4, 7, 6), strict=True))
# Unequal dimensions, two of them equal, and "c" removed: F kept fields.
PLAN = EmbeddingPlan.from_dimensions(FIELDS, {"a": 1, "b": 3, "c": 0, "d": 3, "e": 2})
# Thresholds so near one half that dimensions come and go within some tens of steps.
LIVELY = GrowthConfig(grow_threshold=0.502, shrink_threshold=0.495, backoff_checks=1)


def config_of(name: str, **options) -> ModelConfig:
    return ModelConfig(**({"backbone": name, "adapter_width": WIDTH, "hidden_units": (5, 4)} | options))


def inputs_of(name: str, num_fields: int = F, seed: int = 0) -> np.ndarray:
    shape = (B, WIDTH) if BACKBONES[name].adapter == "joint" else (B, num_fields, WIDTH)
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


def randomize(model) -> None:
    """Gives every trainable weight, biases too, random values that keep the scale of what passes through."""
    rng = np.random.default_rng(1)
    for variable in model.trainable_variables:
        variable.assign(rng.normal(size=variable.shape) / variable.shape[0] ** 0.5)


def make_backbone(name: str, num_fields: int = F, dtype=None, **options):
    """A built backbone with random weights."""
    layer = config_of(name, **options).make_backbone(seed=3)
    if dtype:
        layer = type(layer).from_config(layer.get_config() | {"dtype": dtype})
    layer.build((None, *inputs_of(name, num_fields).shape[1:]))
    randomize(layer)
    return layer


def planned_ids() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(2)
    return {field.name: rng.integers(0, field.vocabulary_size, B) for field in FIELDS}


def planned_model(name: str):
    layer = PlannedEmbedding(PLAN, WIDTH, BACKBONES[name].adapter, seed=1, name="embedding")
    model = build_model(layer, config_of(name), seed=3)
    randomize(model)
    return model


# Formulas, in NumPy.


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def perceptron(layer, x):
    for dense in layer.hidden:
        x = np.maximum(x @ dense.kernel.numpy() + dense.bias.numpy(), 0)
    return x @ layer.linear.kernel.numpy()


def flat(h):
    return h.reshape(len(h), -1)


def pairs(num_fields: int):
    """Pairs i > j in the order of the rows of a lower triangle."""
    return [(i, j) for i in range(num_fields) for j in range(i)]


def products(h):
    return np.stack([(h[:, i] * h[:, j]).sum(1) for i, j in pairs(h.shape[1])], axis=1)


def pooled(h):
    return sum(h[:, i] * h[:, j] for i, j in pairs(h.shape[1]))


def attended(layer, h):
    """One interacting layer, head by head and field by field."""
    query, key, value = (getattr(layer, name).kernel.numpy() for name in ("query", "key", "value"))
    heads = []
    for start in range(0, query.shape[1], layer.head_width):
        columns = slice(start, start + layer.head_width)
        q, k, v = (h @ kernel[:, columns] for kernel in (query, key, value))
        weights = np.exp(np.einsum("bmd,bnd->bmn", q, k))
        weights /= weights.sum(2, keepdims=True)
        heads.append(np.einsum("bmn,bnd->bmd", weights, v))
    return np.maximum(np.concatenate(heads, 2) + h @ layer.residual.kernel.numpy(), 0)


def wide_deep_logit(layer, x):
    return x @ layer.wide.kernel.numpy() + perceptron(layer.deep, x)


def dcn_logit(layer, x):
    crossed = x
    for dense in layer.crosses:
        crossed = x * (crossed @ dense.kernel.numpy() + dense.bias.numpy()) + crossed
    return crossed @ layer.linear.kernel.numpy() + perceptron(layer.deep, x)


def fm_logit(layer, h):
    return flat(h) @ layer.linear.kernel.numpy() + pooled(h).sum(1, keepdims=True)


def deepfm_logit(layer, h):
    return fm_logit(layer, h) + perceptron(layer.deep, flat(h))


def nfm_logit(layer, h):
    return flat(h) @ layer.linear.kernel.numpy() + perceptron(layer.deep, pooled(h))


def ipnn_logit(layer, h):
    return perceptron(layer.deep, np.concatenate([flat(h), products(h)], 1))


def dlrm_logit(layer, h):
    return perceptron(layer.deep, np.concatenate([h.sum(1), products(h)], 1))


def autoint_logit(layer, h):
    x = h
    for interacting in layer.interacting:
        x = attended(interacting, x)
    return flat(x) @ layer.linear.kernel.numpy() + perceptron(layer.deep, flat(h))


LOGITS = {
    "autoint": autoint_logit,
    "dcn": dcn_logit,
    "deepfm": deepfm_logit,
    "dlrm": dlrm_logit,
    "fm": fm_logit,
    "ipnn": ipnn_logit,
    "nfm": nfm_logit,
    "wide_deep": wide_deep_logit,
}


@pytest.mark.parametrize("name", BACKBONES)
def test_a_backbone_is_the_sigmoid_of_its_papers_formula(name):
    layer, x = make_backbone(name), 0.3 * inputs_of(name)

    outputs = layer(x)

    expected = sigmoid(LOGITS[name](layer, x) + layer.bias.numpy())
    np.testing.assert_allclose(outputs, expected, rtol=1e-4, atol=1e-6)
    assert outputs.shape == (B, 1)
    assert layer.compute_output_shape((None, *x.shape[1:])) == (None, 1)


@pytest.mark.parametrize("num_fields", [1, 2, 5])
def test_the_sum_square_trick_is_the_sum_over_pairs(num_fields):
    h = inputs_of("fm", num_fields)
    explicit = sum((h[:, i] * h[:, j] for i, j in itertools.combinations(range(num_fields), 2)), np.zeros((B, WIDTH)))

    np.testing.assert_allclose(pool_pairs(h), explicit, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(sum_pair_products(h), explicit.sum(1, keepdims=True), rtol=1e-4, atol=1e-5)


def test_pair_products_are_the_inner_products_of_all_pairs():
    h = inputs_of("ipnn")

    np.testing.assert_allclose(pair_products(h), products(h), rtol=1e-4, atol=1e-6)


def test_one_field_has_no_pairs():
    h = inputs_of("fm", 1)

    assert pair_products(h).shape == (B, 0)
    np.testing.assert_array_equal(pool_pairs(h), np.zeros((B, WIDTH)))


def test_pairs_are_pooled_in_float32_under_half_precision():
    h = tf.cast(300 * inputs_of("fm"), "float16")  # its squares are infinite in float16

    np.testing.assert_allclose(pool_pairs(h), pooled(h.numpy().astype("float64")), rtol=1e-4, atol=1)


def test_attention_weights_are_a_softmax_over_the_fields_for_each_head():
    layer = InteractingLayer(num_heads=2, head_width=5, seed=0)

    outputs, weights = layer(inputs_of("autoint")), layer.attention(inputs_of("autoint")).numpy()

    assert outputs.shape == layer.compute_output_shape((B, F, WIDTH)) == (B, F, 10)
    assert weights.shape == (B, 2, F, F)
    assert weights.min() > 0
    np.testing.assert_allclose(weights.sum(-1), np.ones((B, 2, F)), rtol=1e-6)


# Each backbone as a Keras layer.


@pytest.mark.parametrize("name", BACKBONES)
def test_the_gradient_reaches_every_weight_and_every_input(name):
    layer, x = make_backbone(name), tf.constant(0.3 * inputs_of(name))

    with tf.GradientTape() as tape:
        tape.watch(x)
        loss = tf.reduce_sum(layer(x, training=True))
    *gradients, of_inputs = tape.gradient(loss, [v.value for v in layer.trainable_variables] + [x])

    for variable, gradient in zip(layer.trainable_variables, gradients, strict=True):
        assert np.abs(gradient).max() > 0, variable.path
    assert (np.abs(of_inputs).max(-1) > 0).all()


@pytest.mark.parametrize("name", BACKBONES)
def test_all_variables_exist_after_build(name):
    layer = make_backbone(name)
    before = [v.path for v in layer.variables]

    layer(inputs_of(name))

    assert before == [v.path for v in layer.variables]
    assert all(v.path.startswith(f"{name}/") for v in layer.trainable_variables)


@pytest.mark.parametrize("name", BACKBONES)
def test_a_config_makes_an_equal_layer(name):
    layer = make_backbone(name, **({} if name == "fm" else {"dropout": 0.2}))
    other = type(layer).from_config(layer.get_config())

    other.build((None, *inputs_of(name).shape[1:]))
    other.set_weights(layer.get_weights())

    assert other.get_config() == layer.get_config()
    np.testing.assert_array_equal(other(inputs_of(name)), layer(inputs_of(name)))


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
@pytest.mark.parametrize("name", BACKBONES)
def test_half_precision_gives_float32_probabilities_near_those_of_float32(name, policy):
    layer, half, x = make_backbone(name), make_backbone(name, dtype=policy), 0.3 * inputs_of(name)
    half.set_weights(layer.get_weights())

    outputs = half(x)

    assert outputs.dtype == tf.float32
    assert half(keras.Input(x.shape[1:])).dtype == "float32"
    assert {v.dtype for v in half.trainable_variables} == {"float32"}
    assert {sub.compute_dtype for sub in half._flatten_layers()} == {policy.removeprefix("mixed_")}
    np.testing.assert_allclose(outputs, layer(x), atol=0.08)


@pytest.mark.parametrize("name", DEEP)
def test_deep_backbones_drop_out_in_training_only(name):
    layer, x = make_backbone(name, hidden_units=(64,), dropout=0.5), 0.1 * inputs_of(name)

    assert (layer(x, training=True).numpy() != layer(x, training=False).numpy()).any()
    np.testing.assert_array_equal(layer(x, training=False), layer(x, training=False))


@pytest.mark.parametrize("name", BACKBONES)
def test_the_seed_decides_the_initial_values_and_no_two_kernels_share_one(name):
    weights = []
    for seed in (1, 1, 2):
        layer = config_of(name, hidden_units=(WIDTH, WIDTH)).make_backbone(seed)
        layer.build((None, *inputs_of(name).shape[1:]))
        weights.append(layer.get_weights())

    for one, same, other in zip(*weights, strict=True):
        np.testing.assert_array_equal(one, same)
        assert not one.any() or (one != other).any()
    kernels = [w for w in weights[0] if w.any()]
    assert not any(a.shape == b.shape and (a == b).all() for a, b in itertools.combinations(kernels, 2))


@pytest.mark.parametrize(
    ("cls", "sizes"),
    [(DCN, {"num_cross_layers": 1}), (AutoInt, {"num_layers": 1, "num_heads": 3, "head_width": 2})],
)
def test_sizes_of_their_own_are_kept_in_the_config(cls, sizes):
    layer = cls((4,), 0.1, 5, **sizes)

    config = cls.from_config(layer.get_config()).get_config()

    assert config.items() >= (sizes | {"hidden_units": (4,), "dropout": 0.1, "seed": 5}).items()


@pytest.mark.parametrize("cls", [FM, DeepFM, NFM, IPNN, DLRM, AutoInt, DCN, WideDeep])
def test_input_of_the_other_adapter_is_refused(cls):
    shape = (None, F, WIDTH) if cls.adapter == "joint" else (None, WIDTH)

    with pytest.raises(
        ValueError, match=rf"{cls.__name__} takes \[B, .* from an embedding with adapter='{cls.adapter}'"
    ):
        cls(seed=0).build(shape)


def test_an_unknown_number_of_fields_is_refused():
    with pytest.raises(ValueError, match=r"received input of shape \(None, None, 3\)"):
        FM(seed=0).build((None, None, WIDTH))


# Over the embedding layers.


@pytest.mark.parametrize("name", BACKBONES)
def test_a_model_with_a_plan_is_saved_and_loaded_with_equal_predictions(name, tmp_path):
    model = planned_model(name)
    expected = model(planned_ids())

    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")

    np.testing.assert_array_equal(loaded(planned_ids()), expected)
    assert loaded.backbone.get_config() == model.backbone.get_config()
    assert np.ptp(expected) > 0


@pytest.mark.parametrize("name", BACKBONES)
def test_a_checkpoint_holds_every_weight(name, tmp_path):
    model = planned_model(name)
    expected = model(planned_ids())
    path = tf.train.Checkpoint(model=model).write(str(tmp_path / "checkpoint"))
    for variable in model.trainable_variables:
        variable.assign(tf.zeros_like(variable.value))

    tf.train.Checkpoint(model=model).read(path).assert_consumed()

    np.testing.assert_array_equal(model(planned_ids()), expected)


@pytest.mark.parametrize("name", BACKBONES)
def test_a_plan_that_keeps_one_field_gives_a_model_that_depends_on_it(name):
    plan = EmbeddingPlan.from_dimensions(FIELDS, {"a": 0, "b": 2, "c": 0, "d": 0, "e": 0})
    layer = PlannedEmbedding(plan, WIDTH, BACKBONES[name].adapter, seed=1)
    model = build_model(layer, config_of(name), seed=3)
    randomize(model)

    with tf.GradientTape() as tape:
        outputs = model({"b": np.arange(9)})
        loss = tf.reduce_sum(outputs)
    gradient = tape.gradient(loss, layer.tables["2"].value)

    assert outputs.shape == (9, 1)
    assert np.isfinite(outputs).all()
    assert np.ptp(outputs) > 0
    assert np.abs(tf.convert_to_tensor(gradient)).max() > 0


@pytest.mark.parametrize("name", BACKBONES)
def test_a_search_grows_with_one_trace_and_learns(name, planted, monkeypatch):
    traces, original = [], BACKBONES[name].terms

    def terms(self, inputs, training=None):
        traces.append(tf.executing_eagerly())
        return original(self, inputs, training)

    monkeypatch.setattr(BACKBONES[name], "terms", terms)
    config = config_of(name, adapter_width=8, hidden_units=(16,))
    layer = DimGrowEmbedding(planted.fields, 8, config.adapter, GateConfig(penalty=1e-3), stddev=0.1, seed=0)
    model = build_model(layer, config, seed=0)
    model.compile(LazyAdam(2e-2), "binary_crossentropy")
    growth = DimensionSearch(layer, LIVELY, check_every=8)

    model.fit(planted.batches().repeat(), epochs=1, steps_per_epoch=120, callbacks=[growth], verbose=0)

    assert traces == [False]
    assert sum(event["action"] == "grow" for record in growth.trajectory for event in record["events"]) >= 3
    assert growth.trajectory[-1]["loss"] < 0.6 < 0.68 < growth.trajectory[0]["loss"]


# Configuration.


@pytest.mark.parametrize("name", BACKBONES)
def test_an_embedding_with_the_wrong_adapter_is_refused_with_the_right_one(name):
    right = BACKBONES[name].adapter
    wrong = {"joint": "per_field", "per_field": "joint"}[right]
    layer = PlannedEmbedding(PLAN, WIDTH, wrong, name="embedding")

    match = (
        rf"backbone '{name}' takes adapter='{right}'; received embedding 'embedding' with adapter='{wrong}'. "
        rf"Create the PlannedEmbedding with adapter='{right}'"
    )
    with pytest.raises(ValueError, match=match):
        build_model(layer, config_of(name), seed=0)


def test_wide_deep_and_dcn_take_the_joint_adapter_and_all_others_that_per_field():
    assert {name for name in BACKBONES if config_of(name).adapter == "joint"} == {"wide_deep", "dcn"}


@pytest.mark.parametrize("name", ["FM", "", 3, ["fm"], {}])
def test_an_unknown_backbone_is_refused_with_the_known_ones(name):
    with pytest.raises(ValueError, match=r"ModelConfig: backbone must be one of autoint, dcn, .*, wide_deep; received"):
        ModelConfig.from_dict({"backbone": name})


def test_a_model_config_keeps_its_backbone_in_json():
    config = config_of("nfm")

    assert ModelConfig.from_json(config.to_json()) == config
    assert ModelConfig.from_dict({}).backbone == "wide_deep"
