"""OptEmbed-D: the supernet's masks cut columns, and dimensions evolve by its loss on held-out rows."""

import numpy as np
import pytest
import tensorflow as tf

from keras_dimgrow import EmbeddingPlan, Field, ModelConfig, PlannedEmbedding, build_model, evaluate, search
from keras_dimgrow.methods import optembed
from keras_dimgrow.methods.optembed import CandidateLosses, MaskedEmbedding, OptEmbedConfig

MODEL = ModelConfig(backbone="fm", adapter_width=4)
CONFIG = OptEmbedConfig.from_dict(
    {
        "max_dimension": 6,
        "max_epochs": 12,
        "patience_epochs": 1,
        "learning_rate": 0.1,
        "evolution": {"num_mutations": 5},
    }
)
FIELDS = (
    Field(name="item", vocabulary_size=9, table="items"),
    Field(name="city", vocabulary_size=5, max_dim=3),
    Field(name="history", vocabulary_size=9, table="items", combiner="mean", missing_id=0),
    Field(name="hour", vocabulary_size=4, min_dim=2),
)
IDS = {
    "item": np.array([0, 8, 3]),
    "city": np.array([4, 0, 1]),
    "history": np.array([[1, 2], [0, 8], [0, 0]]),
    "hour": np.array([3, 0, 0]),
}


# The supernet.


@pytest.mark.parametrize("adapter", ["joint", "per_field"])
@pytest.mark.parametrize("dims", [[2, 1, 4], [6, 3, 6]], ids=["cut", "full"])
def test_a_masked_supernet_equals_an_embedding_with_the_columns_cut(adapter, dims):
    layer = MaskedEmbedding(FIELDS, 6, adapter_width=5, adapter=adapter, stddev=1.0)
    layer.build(None)
    by_name = dict(zip(("item", "city", "history", "hour"), (dims[0], dims[1], dims[0], dims[2]), strict=True))
    planned = PlannedEmbedding(EmbeddingPlan.from_dimensions(FIELDS, by_name), 5, adapter)
    planned.build(None)
    kernels = np.split(layer.kernel.numpy(), np.cumsum([6, 3, 6]))
    planned.assign_by_field(
        {f.name: layer.tables[t].numpy()[:, : by_name[f.name]] for f, t in zip(FIELDS, layer.table_of, strict=True)},
        {f.name: kernel[: by_name[f.name]] for f, kernel in zip(FIELDS, kernels, strict=True)},
    )

    output = layer.adapt_first(layer.lookup(IDS), tf.constant(dims))

    np.testing.assert_allclose(output, planned(IDS), atol=1e-5)
    if dims == [6, 3, 6]:
        np.testing.assert_allclose(layer(IDS), output, atol=1e-5)


def drawn_dimensions(num_rows: int, seed: int = 0) -> np.ndarray:
    """The dimensions that training draws for each row and field: all embeddings are ones, the adapter sums them."""
    layer = MaskedEmbedding(FIELDS, 6, adapter_width=1, adapter="per_field", seed=seed)
    layer.build(None)
    for variable in (*layer.tables, layer.kernel):
        variable.assign(tf.ones(variable.shape))
    ids = {name: np.ones((num_rows, 2) if name == "history" else num_rows, int) for name in IDS}
    return np.array(layer(ids, training=True))[:, :, 0]


def test_each_row_draws_a_dimension_for_each_table_uniformly_from_its_bounds():
    dims = drawn_dimensions(4000)

    np.testing.assert_array_equal(dims[:, 0], dims[:, 2])
    for column, expected in ((0, range(1, 7)), (1, range(1, 4)), (3, range(2, 7))):
        values, counts = np.unique(dims[:, column], return_counts=True)
        assert values.tolist() == list(expected)
        np.testing.assert_allclose(counts / 4000, 1 / len(expected), atol=0.04)
    assert abs(np.corrcoef(dims[:, 0], dims[:, 3])[0, 1]) < 0.06


def test_draws_follow_the_seed():
    np.testing.assert_array_equal(drawn_dimensions(50), drawn_dimensions(50))
    assert (drawn_dimensions(50) != drawn_dimensions(50, seed=1)).any()


def test_losses_of_candidates_are_those_that_evaluate_gives_the_cut_models(planted):
    data = planted.batches(300, False)
    model = build_model(MaskedEmbedding(planted.fields, 6, 4, "per_field", stddev=0.5), MODEL, 0)
    candidates = np.array([[1, 6, 2], [6, 6, 6]])

    losses_of = CandidateLosses(model, data)

    full = evaluate(model, data).log_loss
    found = losses_of(candidates)
    assert found[1] == pytest.approx(full, rel=1e-5)
    for table, dim in zip(model.embedding.tables, candidates[0], strict=True):
        table.assign(table.numpy() * (np.arange(6) < dim))
    assert found[0] == pytest.approx(evaluate(model, data).log_loss, rel=1e-5)
    assert abs(found[0] - full) > 1e-3
    # Batches of 300 and of 100 rows, one candidate or two.
    losses_of(candidates[:1])
    assert losses_of._summed_losses.experimental_get_tracing_count() == 1


# The search.


def run(planted, **options):
    data = planted.batches(is_shuffled=False)
    return search(
        planted.fields,
        data.skip(1),
        data.take(1),
        **({"method": "optembed", "config": CONFIG, "model_config": MODEL, "seed": 1} | options),
    )


@pytest.fixture(scope="module")
def searched(planted):
    """A search, its supernet's losses, and the records that it reported."""
    made, records = [], []

    def make(model, data):
        made.append(CandidateLosses(model, data))
        made.append(model)
        return made[0]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(optembed, "CandidateLosses", make)
        result = run(planted, on_check=records.append)
    return result, made[0], records


def test_records_tell_of_the_supernet_and_then_of_the_best_candidates(planted, searched):
    result, _, records = searched
    trained = [record for record in records if "num_evaluated" not in record]
    evolved = records[len(trained) :]

    assert records == result.trajectory
    assert [record["step"] for record in trained] == [3 * (i + 1) for i in range(len(trained))]
    assert {record["step"] for record in evolved} == {trained[-1]["step"]}
    assert {record["parameters"] for record in trained} == {80 * 6}
    assert {record["table_bytes"] for record in records} == {3 * 4 * 80 * 6} == {result.peak_table_bytes}
    assert 15 == evolved[0]["num_evaluated"] < evolved[-1]["num_evaluated"] <= 150
    assert evolved[-1]["dimensions"] == result.plan.dimensions
    assert evolved[-1]["parameters"] == result.plan.parameters


def test_evolution_goes_on_from_the_best_epoch_and_never_gets_worse(searched):
    result, losses_of, records = searched
    trained = [record["validation_loss"] for record in records if "num_evaluated" not in record]
    evolved = [record["validation_loss"] for record in records[len(trained) :]]

    assert trained[-1] > min(trained), "this test is about a search whose last epoch was not its best"
    assert result.has_converged
    assert losses_of(np.array([[6, 6, 6]]))[0] == pytest.approx(min(trained), abs=1e-5)
    assert losses_of(np.array([list(result.plan.dimensions.values())]))[0] == pytest.approx(evolved[-1], abs=1e-6)
    assert evolved == sorted(evolved, reverse=True)
    assert evolved[-1] < evolved[0]


def test_the_same_seed_gives_the_same_search(planted, searched):
    again = run(planted)

    assert again.plan == searched[0].plan
    for record, other in zip(again.trajectory, searched[2], strict=True):
        assert record["dimensions"] == other["dimensions"]
        assert record["validation_loss"] == pytest.approx(other["validation_loss"], abs=1e-6)


def test_a_budget_is_refused_and_held_out_rows_are_needed(planted):
    with pytest.raises(ValueError, match=r"search\(method='optembed'\) .* takes no parameter_budget"):
        run(planted, parameter_budget=0.5)
    with pytest.raises(ValueError, match=r"search\(method='optembed'\) judges dimensions on held-out rows"):
        search(planted.fields, planted.batches(), method="optembed")


@pytest.mark.parametrize(
    "values", [{"max_dimension": 0}, {"max_epochs": 0}, {"patience_epochs": 0}, {"max_steps": 0}, {"learning_rate": 0}]
)
def test_settings_out_of_range_are_refused(values):
    with pytest.raises(ValueError, match=f"OptEmbedConfig: {next(iter(values))} must be"):
        OptEmbedConfig(**values)
