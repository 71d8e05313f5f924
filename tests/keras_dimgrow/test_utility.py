"""Utilities: exact where the logit is linear in a field's embedding, and the components that they belong to."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_dimgrow import Field, GrowableEmbedding, LazyAdam, ModelConfig, build_model
from keras_dimgrow.utility import HeldOutRows, measure

# The closed form.


def log_loss(logits, signs):
    return np.logaddexp(0, signs * logits)


def bilinear_rows(num_rows=3000, dim=4, rank=None, seed=0):
    """Embeddings, slopes, logits and signs of a logit that is other + e . a, a the other side of an inner product.

    Of a table with `rank` directions that matter the others are noise that the slopes do not see.
    """
    rng = np.random.default_rng(seed)
    mixing = rng.normal(size=(dim, dim))
    strengths = np.where(np.arange(dim) < (dim if rank is None else rank), 2.0 / (1 + np.arange(dim)), 0.0)
    factors = rng.normal(size=(num_rows, dim))
    e = factors @ mixing + rng.normal(size=dim)
    a = rng.normal(size=(num_rows, dim)) * strengths @ np.linalg.inv(mixing).T
    logits = 0.3 * rng.normal(size=num_rows) + (e * a).sum(1)
    signs = np.where(rng.random(num_rows) < 1 / (1 + np.exp(-logits)), -1.0, 1.0)
    return e, a, logits, signs


def measured(e, a, logits, signs):
    p = 1 / (1 + np.exp(-logits))
    return measure([e.T], [a.T], logits, signs, p * (1 - p))


@pytest.mark.parametrize("dim", [1, 2, 5])
def test_gains_are_the_losses_of_taking_components_out_one_after_the_other(dim):
    e, a, logits, signs = bilinear_rows(dim=dim)

    spectrum = measured(e, a, logits, signs)

    mean = e.mean(0)
    losses = []
    for rank in range(dim, -1, -1):
        basis, mixing = spectrum.projection(rank)
        without = mean + (e - mean) @ basis @ mixing  # what the field embeds to with `rank` components
        losses.append(log_loss(logits + ((without - e) * a).sum(1), signs))
    rises = np.diff(losses, axis=0)[::-1]
    np.testing.assert_allclose(spectrum.gains, rises.mean(1), atol=1e-9)
    np.testing.assert_allclose(spectrum.errors, rises.std(1) / len(e) ** 0.5, rtol=1e-6)
    np.testing.assert_allclose(losses[0], log_loss(logits, signs), rtol=1e-6)


def test_components_come_in_order_of_the_logit_variance_that_they_carry():
    e, a, logits, signs = bilinear_rows(dim=5)
    p = 1 / (1 + np.exp(-logits))
    weights = p * (1 - p)

    spectrum = measured(e, a, logits, signs)

    values = (e - e.mean(0)) @ spectrum.directions
    slopes = a @ spectrum.duals.T
    np.testing.assert_allclose(values.T @ values / len(e), np.eye(5), atol=1e-6)
    carried = slopes.T @ (slopes * weights[:, None]) / len(e)
    np.testing.assert_allclose(carried, np.diag(np.diag(carried)), atol=1e-8)
    assert (np.diff(np.diag(carried)) < 0).all()


@pytest.mark.parametrize("rank", [1, 3])
def test_a_table_of_planted_rank_has_so_many_gains_and_no_more(rank):
    spectrum = measured(*bilinear_rows(num_rows=6000, dim=6, rank=rank))

    assert (spectrum.gains[:rank] > 0.01).all()
    assert (spectrum.gains[:rank] > 5 * spectrum.errors[:rank]).all()
    np.testing.assert_allclose(spectrum.gains[rank:], 0, atol=1e-4)


def test_a_field_that_says_nothing_gains_nothing():
    e, a, logits, signs = bilinear_rows()

    spectrum = measured(e, np.zeros_like(a), logits, signs)

    np.testing.assert_allclose(spectrum.gains, 0, atol=1e-9)


def test_the_sum_of_gains_is_the_loss_without_the_field():
    e, a, logits, signs = bilinear_rows()

    spectrum = measured(e, a, logits, signs)

    constant = logits + ((e.mean(0) - e) * a).sum(1)
    expected = (log_loss(constant, signs) - log_loss(logits, signs)).mean()
    assert spectrum.gains.sum() == pytest.approx(expected, abs=1e-9)
    assert expected > 0.1


def test_fields_of_one_table_lose_a_component_together():
    e, a, _, _ = bilinear_rows(dim=3, seed=1)
    other_e, other_a, _, _ = bilinear_rows(dim=3, seed=2)
    logits = (e * a).sum(1) + (other_e * other_a).sum(1)
    signs = np.where(np.random.default_rng(0).random(len(e)) < 1 / (1 + np.exp(-logits)), -1.0, 1.0)
    p = 1 / (1 + np.exp(-logits))

    spectrum = measure([e.T, other_e.T], [a.T, other_a.T], logits, signs, p * (1 - p))

    basis, mixing = spectrum.projection(2)
    moved = logits.copy()
    for each, slopes in ((e, a), (other_e, other_a)):
        centred = each - each.mean(0)
        moved += ((centred @ basis @ mixing - centred) * slopes).sum(1)
    expected = (log_loss(moved, signs) - log_loss(logits, signs)).mean()
    assert spectrum.gains[2] == pytest.approx(expected, abs=1e-9)


def test_a_field_that_adds_to_the_logit_is_additive_and_one_that_multiplies_is_not():
    e, a, logits, signs = bilinear_rows()
    rng = np.random.default_rng(0)
    constant = np.tile(rng.normal(size=4), (len(e), 1))
    noisy = constant * (1 + 0.5 * rng.normal(size=(len(e), 1)))

    assert measured(e, constant, logits, signs).additivity == pytest.approx(1)
    assert measured(e, noisy, logits, signs).additivity == pytest.approx(1 / 1.25, abs=0.03)
    assert measured(e, a, logits, signs).additivity < 0.01
    assert measured(e, np.zeros_like(a), logits, signs).additivity == 0


def test_a_shared_table_is_additive_if_each_of_its_fields_is():
    e, a, logits, signs = bilinear_rows()
    up, down = (np.full_like(a, slope).T for slope in (2.0, -1.0))
    curvatures = np.full(len(e), 0.25)

    assert measure([e.T, e.T[::-1]], [up, down], logits, signs, curvatures).additivity == pytest.approx(1)
    assert measure([e.T, e.T[::-1]], [up, a.T], logits, signs, curvatures).additivity < 0.9


def test_a_table_without_columns_has_no_components():
    spectrum = measure([np.zeros((0, 7))], [np.zeros((0, 7))], np.zeros(7), np.ones(7), np.full(7, 0.25))

    assert spectrum.gains.shape == spectrum.errors.shape == (0,)
    assert spectrum.directions.shape == spectrum.duals.shape == (0, 0)


def with_duplicate_column():
    e, a, logits, signs = bilinear_rows(dim=3)
    return np.concatenate([e, e[:, :1]], 1), np.concatenate([a / 2, a[:, :1] / 2], 1), logits, signs


def with_new_column():
    """As after a growth: a column of zeros, whose slopes are not."""
    e, a, logits, signs = bilinear_rows(dim=3)
    slopes = np.random.default_rng(3).normal(size=(len(e), 1))
    return np.concatenate([e, np.zeros((len(e), 1))], 1), np.concatenate([a, slopes], 1), logits, signs


CASES = {
    "bilinear": bilinear_rows,
    "low rank": lambda: bilinear_rows(dim=5, rank=2),
    "duplicate column": with_duplicate_column,
    "new column": with_new_column,
}


@pytest.fixture(params=CASES)
def rows(request):
    return CASES[request.param]()


def test_directions_and_duals_are_inverse(rows):
    spectrum = measured(*rows)

    np.testing.assert_allclose(spectrum.directions @ spectrum.duals, np.eye(len(spectrum.gains)), atol=1e-5)


def test_projections_are_oblique_projections_on_an_orthonormal_basis(rows):
    spectrum = measured(*rows)
    dim = len(spectrum.gains)
    for rank in range(dim + 1):
        basis, mixing = spectrum.projection(rank)
        projection = basis @ mixing

        assert (basis.shape, mixing.shape) == ((dim, rank), (rank, dim))
        np.testing.assert_allclose(basis.T @ basis, np.eye(rank), atol=1e-9)
        np.testing.assert_allclose(projection @ projection, projection, atol=1e-5)
        assert np.trace(projection) == pytest.approx(rank, abs=1e-5)
        kept = spectrum.directions[:, :rank]
        np.testing.assert_allclose(projection @ kept, kept, rtol=1e-5, atol=1e-5 * np.abs(kept).max(initial=1.0))
    np.testing.assert_allclose(projection, np.eye(dim), atol=1e-5)


def test_a_column_of_zeros_comes_last_and_gains_nothing():
    spectrum = measured(*with_new_column())

    assert spectrum.gains[-1] == pytest.approx(0, abs=1e-6)
    assert (spectrum.gains[:3] > 0.01).all()


# On a model.

FIELDS = (
    Field(name="item", vocabulary_size=8, table="items"),
    Field(name="user", vocabulary_size=12),
    Field(name="history", vocabulary_size=8, table="items", combiner="mean", missing_id=0),
    Field(name="absent", vocabulary_size=5),
)
DIMS = (3, 2, 0)
ADAPTERS = {"joint": "dcn", "per_field": "fm"}


def make_model(adapter: str, dimensions=DIMS, **options):
    layer = GrowableEmbedding(FIELDS, dimensions, 4, adapter, stddev=0.3, seed=1, name="embedding", **options)
    return build_model(
        layer, ModelConfig(backbone=ADAPTERS[adapter], adapter_width=4, hidden_units=(6,), dropout=0.2), 0
    )


@pytest.fixture(scope="module")
def held_out():
    rng = np.random.default_rng(5)
    inputs = {
        "item": rng.integers(0, 8, 100),
        "user": rng.integers(0, 12, 100),
        "history": rng.integers(0, 8, (100, 3)),
        "absent": rng.integers(0, 5, 100),
    }
    return inputs, (rng.random((100, 1)) < 0.4).astype("float32")


def batches(held_out, size=32):
    return tf.data.Dataset.from_tensor_slices(held_out).batch(size)


@pytest.mark.parametrize("adapter", ADAPTERS)
def test_slopes_are_the_gradients_of_the_logit_in_the_embeddings(adapter, held_out):
    model = make_model(adapter)
    rows = HeldOutRows(model, batches(held_out, 100), 1000)

    embedded, slopes, logits = rows._look(held_out[0])

    layer = model.embedding
    embeddings = layer.embed(held_out[0])
    with tf.GradientTape() as tape:
        tape.watch(embeddings)
        p = model.backbone(layer.adapt(embeddings), training=False)
        expected_logits = tf.squeeze(tf.math.log(p) - tf.math.log1p(-p), 1)
    expected = tape.gradient(expected_logits, embeddings, unconnected_gradients="zero")
    np.testing.assert_allclose(embedded, tf.concat(embeddings, 1), atol=1e-6)
    np.testing.assert_allclose(logits, expected_logits, atol=1e-4)
    np.testing.assert_allclose(slopes, tf.concat(expected, 1), rtol=1e-3, atol=1e-4)
    assert slopes.shape == (100, 3 + 2 + 3)


@pytest.mark.parametrize("adapter", ADAPTERS)
def test_a_look_gives_a_spectrum_a_table_and_the_loss_of_the_model(adapter, held_out):
    model = make_model(adapter)

    look = HeldOutRows(model, batches(held_out), 1000).look()

    p = model.predict_on_batch(held_out[0])
    assert [len(spectrum.gains) for spectrum in look.spectra] == list(DIMS)
    np.testing.assert_allclose(look.probabilities, p[:, 0], atol=1e-5)
    expected = keras.losses.BinaryCrossentropy()(held_out[1], p)
    assert look.log_loss == pytest.approx(float(expected), abs=1e-5)


@pytest.mark.parametrize("adapter", ADAPTERS)
def test_a_look_changes_nothing_and_sees_growth_and_projections(adapter, held_out):
    model = make_model(adapter)
    rows = HeldOutRows(model, batches(held_out), 1000)
    before = [variable.numpy() for variable in model.variables]
    first = rows.look()
    for variable, value in zip(model.variables, before, strict=True):
        np.testing.assert_array_equal(variable.numpy(), value)

    model.embedding.grow({2: 1, 1: 2})
    grown = rows.look()
    model.embedding.project(0, *grown.spectra[0].projection(1))
    cut = rows.look()

    assert [len(spectrum.gains) for spectrum in grown.spectra] == [3, 4, 1]
    assert [len(spectrum.gains) for spectrum in cut.spectra] == [1, 4, 1]
    assert grown.log_loss == pytest.approx(first.log_loss, abs=1e-6)
    np.testing.assert_allclose(grown.spectra[0].gains, first.spectra[0].gains, atol=1e-5)
    np.testing.assert_allclose(grown.spectra[1].gains[2:], 0, atol=1e-5)


def test_looks_of_many_rows_read_no_more_than_they_are_told(held_out):
    rows = HeldOutRows(make_model("joint"), batches(held_out, 32), max_rows=40)

    assert len(rows.labels) == len(rows.look().probabilities) == 64


def test_held_out_data_without_rows_are_refused(held_out):
    with pytest.raises(ValueError, match=r"validation_data has no batches. Pass held-out rows, \({field: ids}, label"):
        HeldOutRows(make_model("joint"), batches(held_out).take(0), 100)


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_a_look_under_mixed_precision_is_near_that_in_float32(policy, held_out):
    look, expected = (
        HeldOutRows(make_model("joint", **o), batches(held_out), 100).look() for o in ({"dtype": policy}, {})
    )

    assert look.log_loss == pytest.approx(expected.log_loss, abs=0.02)
    np.testing.assert_allclose(look.spectra[0].gains, expected.spectra[0].gains, atol=0.02)


def test_a_trained_field_shows_its_rank_and_a_useless_one_shows_nothing(many_planted):
    data = many_planted.batches(512, is_shuffled=False)
    layer = GrowableEmbedding(many_planted.fields, [4, 2, 4], 8, "per_field", seed=1, name="embedding")
    model = build_model(layer, ModelConfig(backbone="fm", adapter_width=8), 0)
    model.compile(LazyAdam(3e-2), "binary_crossentropy")
    model.fit(data.take(100), epochs=1, shuffle=False, verbose=0)

    spectra = HeldOutRows(model, data.skip(120), 4096).look().spectra

    for i in (0, 2):
        assert (spectra[i].gains[:2] > 0.05).all()
        assert (spectra[i].gains[2:] < 0.01).all()
    assert (spectra[1].gains < 0.01).all()
