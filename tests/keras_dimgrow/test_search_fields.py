"""Whole searches over fields of all kinds: shared, multi-valued, weighted, missing, excluded; and a budget in bytes."""

import numpy as np
import pytest
import tensorflow as tf

from keras_dimgrow import (
    DimGrowPaperConfig,
    EmbeddingPlan,
    Field,
    GateConfig,
    GrowthConfig,
    ModelConfig,
    TrainingConfig,
    retrain,
    search,
)

SIZE, LENGTH = 8, 4
FIELDS = (
    Field(name="item", vocabulary_size=SIZE, table="items"),
    Field(name="noise", vocabulary_size=8 * SIZE),
    Field(name="fixed", vocabulary_size=5, min_dim=2, max_dim=2),
    Field(name="history", vocabulary_size=SIZE, table="items", combiner="mean", missing_id=-1, weights="scores"),
    Field(name="tags", vocabulary_size=16, combiner="sum", missing_id=0),
)
MODEL = ModelConfig(backbone="fm", adapter_width=8)
CONFIG = DimGrowPaperConfig(
    max_steps=500, check_every=20, checkpoint_every=260, learning_rate=2e-2, gate=GateConfig(penalty=1e-3)
)


@pytest.fixture(scope="module")
def splits() -> tuple[tf.data.Dataset, tf.data.Dataset]:
    """Rows whose logit is the inner product of the item's two factors with the weighted mean of the history's."""
    rng = np.random.default_rng(0)
    num_rows = 32768
    factors = np.linalg.qr(rng.normal(size=(SIZE, SIZE)))[0][:, :2] * SIZE**0.5
    ids = {
        "item": rng.integers(0, SIZE, num_rows),
        "noise": rng.integers(0, 8 * SIZE, num_rows),
        "fixed": rng.integers(0, 5, num_rows),
        "history": np.where(rng.random((num_rows, LENGTH)) < 0.4, -1, rng.integers(0, SIZE, (num_rows, LENGTH))),
        "tags": rng.integers(0, 16, (num_rows, 2)),
        "scores": rng.uniform(0.2, 2.0, (num_rows, LENGTH)).astype("float32"),
    }
    w = ids["scores"] * (ids["history"] >= 0)
    means = np.einsum("bl,bld->bd", w / np.maximum(w.sum(1, keepdims=True), 1e-9), factors[ids["history"]])
    logits = 2.5 * (factors[ids["item"]] * means).sum(1)
    labels = (rng.random(num_rows) < 1 / (1 + np.exp(-logits))).astype("float32")
    data = tf.data.Dataset.from_tensor_slices((ids, labels)).batch(256)
    return data.take(112), data.skip(112)


@pytest.fixture(scope="module")
def result(splits):
    return search(FIELDS, *splits, method="dimgrow_paper", config=CONFIG, model_config=MODEL, seed=0)


def test_target_and_history_grow_together_and_noise_is_removed(result):
    dimensions = result.plan.dimensions

    assert dimensions["item"] == dimensions["history"] >= 2
    assert (dimensions["noise"], dimensions["tags"], dimensions["fixed"]) == (0, 0, 2)
    assert result.plan.parameters == SIZE * dimensions["item"] + 5 * 2
    assert result.model.embedding.dimensions() == dimensions


def test_the_record_speaks_of_fields_and_counts_tables(result):
    names = [field.name for field in FIELDS]
    for record in result.trajectory:
        assert list(record["dimensions"]) == list(record["gates"]) == names
        assert record["gates"]["item"] == record["gates"]["history"]
        assert set(record["gates"]["fixed"]) == {1.0}
        d = record["dimensions"]
        assert record["parameters"] == SIZE * d["item"] + 64 * d["noise"] + 5 * d["fixed"] + 16 * d["tags"]
        assert {event["field"] for event in record["events"]} <= {"item", "noise", "tags"}


def test_the_plan_is_retrained_from_scratch_as_well(result, splits):
    plan = EmbeddingPlan.from_dict(result.plan.to_dict())

    trained = retrain(plan, *splits, config=TrainingConfig(max_epochs=3, learning_rate=2e-2), model_config=MODEL)

    assert trained.validation.auc > 0.75
    assert set(trained.model.embedding.tables_by_field()) == {"item", "history", "fixed"}


def test_the_report_counts_shared_tables_once(result, tmp_path):
    pytest.importorskip("jinja2")
    pytest.importorskip("matplotlib")
    from keras_dimgrow.report import write_report

    write_report(
        str(tmp_path / "report.html"),
        plan=[vars(field) | {"field": field.name} for field in result.plan.fields],
        trajectory=result.trajectory,
        settings=CONFIG.to_dict(),
        versions={},
    )

    page = (tmp_path / "report.html").read_text()
    assert f"The plan uses {result.plan.total_dimensions} embedding dimensions for 5 fields" in page
    assert "in the table of item" in page


# A budget in bytes.

START_PARAMETERS = SIZE + 8 * SIZE + 5 * 2 + 16


def test_a_budget_in_bytes_holds_at_every_check_with_the_slots_of_the_optimizer(splits):
    budget = 12 * (START_PARAMETERS + 2 * SIZE)
    growth = GrowthConfig(
        grow_threshold=0.5, shrink_threshold=0.495, backoff_checks=1, revive_after_checks=1, max_table_bytes=budget
    )
    config = DimGrowPaperConfig(max_steps=240, check_every=6, checkpoint_every=240, learning_rate=3e-2, growth=growth)

    result = search(FIELDS, splits[0], method="dimgrow_paper", config=config, model_config=MODEL, seed=0)

    layer, sizes = result.model.embedding, [SIZE, 8 * SIZE, 5, 16]
    assert max(record["table_bytes"] for record in result.trajectory) <= budget
    allocated = sum(size * dim for size, dim in zip(sizes, layer.allocated_dims, strict=True))
    assert result.trajectory[-1]["table_bytes"] == 12 * allocated
    assert budget - 12 * SIZE < 12 * allocated <= budget


def test_a_budget_in_bytes_without_room_for_the_slots_is_refused_before_training(splits):
    growth = GrowthConfig(max_table_bytes=12 * START_PARAMETERS - 1)

    with pytest.raises(ValueError, match=rf"Raise max_table_bytes to at least {12 * START_PARAMETERS}"):
        search(FIELDS, splits[0], method="dimgrow_paper", config=DimGrowPaperConfig(growth=growth), model_config=MODEL)
