"""retrain and evaluate: learning, seeds, early stopping, and exact AUC and log loss."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_dimgrow import EmbeddingPlan, Field, ModelConfig, TrainingConfig, evaluate, retrain
from keras_dimgrow.evaluation import roc_auc

SMALL_MODEL = ModelConfig(adapter_width=8, hidden_units=(16,))
FAST = TrainingConfig(max_epochs=4, learning_rate=2e-2)


@pytest.fixture(scope="module")
def plan(planted) -> EmbeddingPlan:
    return EmbeddingPlan.from_dimensions(planted.fields, {"left": 3, "noise": 0, "right": 3})


@pytest.fixture(scope="module")
def splits(many_planted):
    """Builds training and validation data anew."""

    def build():
        data = many_planted.batches(is_shuffled=False)
        return data.take(40), data.skip(40).take(8)

    return build


@pytest.fixture(scope="module")
def trained(plan, splits):
    return retrain(plan, *splits(), config=FAST, model_config=SMALL_MODEL, seed=1)


def test_it_learns(trained):
    assert trained.validation.auc > 0.75
    assert trained.validation.log_loss < 0.6
    assert trained.validation.num_rows == 8 * 256


def test_it_ignores_the_fields_that_the_plan_removed(trained, splits):
    inputs, _ = next(iter(splits()[1]))
    others = inputs | {"noise": tf.zeros_like(inputs["noise"])}

    np.testing.assert_array_equal(trained.model.predict_on_batch(inputs), trained.model.predict_on_batch(others))
    assert sum(int(np.prod(t.shape)) for t in trained.model.embedding.tables.values()) == 2 * 8 * 3


def test_the_validation_is_that_of_the_model_returned(trained, splits):
    assert evaluate(trained.model, splits()[1]) == trained.validation


def test_the_seed_decides_and_no_global_seed(trained, plan, splits):
    keras.utils.set_random_seed(99)

    same = retrain(plan, *splits(), config=FAST, model_config=SMALL_MODEL, seed=1)
    other = retrain(plan, *splits(), config=FAST, model_config=SMALL_MODEL, seed=2)

    assert same.validation.log_loss == pytest.approx(trained.validation.log_loss, abs=1e-6)
    assert other.validation.log_loss != trained.validation.log_loss


def test_without_validation_it_trains_all_epochs(plan, splits):
    result = retrain(plan, splits()[0].take(2), config=TrainingConfig(max_epochs=3), model_config=SMALL_MODEL)

    assert (result.validation, result.num_epochs) == (None, 3)
    assert int(result.model.optimizer.iterations) == 6


def test_early_stopping_restores_the_best_check(plan, splits):
    train, validation = splits()
    inverted = validation.map(lambda inputs, labels: (inputs, 1 - labels))
    options = {"model_config": SMALL_MODEL, "seed": 1}

    # What is learned makes the inverted labels ever less likely: the first of four checks an epoch is the best.
    stopped = retrain(
        plan,
        train,
        inverted,
        config=TrainingConfig(max_epochs=20, patience_epochs=2, learning_rate=2e-2),
        **options,
    )
    first = retrain(plan, train, inverted, config=TrainingConfig(max_epochs=1, learning_rate=2e-2), **options)

    assert stopped.num_epochs == 0.25 + 2
    assert stopped.validation.log_loss == pytest.approx(first.validation.log_loss, abs=1e-6)


def test_training_on_noise_stops_early(splits):
    field = Field(name="left", vocabulary_size=8)
    plan = EmbeddingPlan.uniform([field], 1)
    train, validation = splits()
    rng = np.random.default_rng(0)
    noise = tf.data.Dataset.zip(
        train.map(lambda inputs, _: inputs),
        tf.data.Dataset.from_tensor_slices(rng.integers(0, 2, (40, 256)).astype("float32")),
    )

    result = retrain(plan, noise, validation, config=TrainingConfig(max_epochs=50), model_config=SMALL_MODEL)

    assert result.num_epochs < 50


# Evaluation.


def constant_model(values: np.ndarray) -> keras.Model:
    """A model that looks its prediction up under `row`."""

    class Lookup(keras.Model):
        def call(self, inputs):
            return tf.gather(tf.constant(values[:, None], tf.float32), inputs["row"])

    return Lookup()


def batches(labels: np.ndarray, batch_size: int) -> tf.data.Dataset:
    return tf.data.Dataset.from_tensor_slices(({"row": np.arange(len(labels))}, labels)).batch(batch_size)


@pytest.mark.parametrize("batch_size", [1, 3, 100])
@pytest.mark.filterwarnings("ignore:5 out of the last 5 calls")
def test_auc_and_log_loss_are_exact_over_all_batches(batch_size):
    scores, labels = np.array([0.1, 0.4, 0.35, 0.8]), np.array([0, 0, 1, 1])

    result = evaluate(constant_model(scores), batches(labels, batch_size))

    assert result.auc == pytest.approx(0.75)
    assert result.log_loss == pytest.approx(-np.mean(np.log([0.9, 0.6, 0.35, 0.8])), rel=1e-6)
    assert result.num_rows == 4


def test_certain_predictions_have_a_finite_loss():
    result = evaluate(constant_model(np.array([0.0, 1.0])), batches(np.array([1, 0]), 2))

    assert result.log_loss == pytest.approx(-np.log(1e-7), rel=1e-6)
    assert result.auc == 0


def test_auc_is_the_share_of_pairs_ranked_right_ties_counting_half():
    rng = np.random.default_rng(0)
    labels, scores = rng.integers(0, 2, 200), rng.integers(0, 20, 200) / 20

    pairs = scores[labels == 1][:, None] - scores[labels == 0][None, :]

    assert roc_auc(labels, scores) == pytest.approx(((pairs > 0) + 0.5 * (pairs == 0)).mean(), rel=1e-12)


@pytest.mark.parametrize("label", [0, 1])
def test_auc_of_one_class_is_not_a_number(label):
    assert np.isnan(roc_auc(np.full(5, label), np.arange(5.0)))
