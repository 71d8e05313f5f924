"""write_model_card: what a reader of an exported model is told."""

from keras_dimgrow import (
    ChunkConfig,
    EmbeddingPlan,
    ModelConfig,
    PlannedField,
    StorageComparison,
    build_embedding,
)
from keras_dimgrow.evaluation import Evaluation
from pipeline.model_card import write_model_card

PLAN = EmbeddingPlan(
    (
        PlannedField(name="city", vocabulary_size=1000, dimension=3),
        PlannedField(name="a|b", vocabulary_size=50, dimension=0),
    )
)


def write(num_reference_rows: int) -> str:
    return write_model_card(
        "bought",
        PLAN,
        StorageComparison(Evaluation(0.81239, 0.4, 2500), Evaluation(0.81227, 0.40013, 2500)),
        storage="int8",
        num_train_rows=12800,
        num_epochs=2.5,
        num_reference_rows=num_reference_rows,
        settings={"seed": "7"},
    )


def test_the_card_tells_plan_metrics_and_data_sizes():
    card = write(num_reference_rows=1000)
    for line in (
        "# Model card: probability of `bought`",
        "| rows trained on, each pass | 12,800 |",
        "| rows evaluated on (eval split) | 2,500 |",
        "| AUC on them | 0.8124 |",
        "| tables stored as | int8 |",
        "| AUC, log loss by storing them so | -0.00012, +0.00013 |",
        "| city | 1,000 | 3 | 3,000 |",
        "| a\\|b | 50 | 0 | 0 |",
        "| total | 1,050 | 3 | 3,000 |",
        "- seed: 7",
    ):
        assert line in card.splitlines()
    assert "17.9% of those of 16 dimensions everywhere. Accepted and ignored: a\\|b." in card
    assert card == write(num_reference_rows=1000)


def test_the_card_of_a_plan_with_chunks_tells_what_rows_have_and_what_happened_in_the_pool():
    plan = PLAN.in_chunks(ChunkConfig(pruning_ratio=0.5), is_start=False)
    card = write_model_card(
        "bought",
        plan,
        StorageComparison(Evaluation(0.8, 0.4, 2500), Evaluation(0.8, 0.4, 2500)),
        storage="float32",
        num_train_rows=12800,
        num_epochs=2.5,
        num_reference_rows=0,
        settings={},
        embedding=build_embedding(plan, ModelConfig(), seed=0),
    )

    assert "| city | 1,000 | 8 of 16, by row | 8,000 |" in card
    assert "8,000 of them are a pool of 1,000 chunks that rows share, 1,000 in use." in card
    assert "0 chunks were evicted, 0 allocated, and 0 times one found no room" in card


def test_the_card_warns_that_raw_rows_travel_with_the_model():
    assert "1,000 raw rows" in write(num_reference_rows=1000)
    assert "No reference outputs are stored" in write(num_reference_rows=0)
