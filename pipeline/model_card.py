"""The model card that travels with an exported model: what it predicts, from what, and how well it did."""

from collections.abc import Mapping
from typing import Any

import keras
import tensorflow as tf

from keras_dimgrow import EmbeddingPlan, PlannedField, StorageComparison


def write_model_card(
    label: str,
    plan: EmbeddingPlan,
    comparison: StorageComparison,
    *,
    storage: str,
    num_train_rows: int,
    num_epochs: float,
    num_reference_rows: int,
    settings: Mapping[str, Any],
    embedding: keras.layers.Layer | None = None,
) -> str:
    """The card as Markdown; the same model gives the same text.

    Args:
        label: the column that the model predicts.
        plan: embedding dimension of every field.
        comparison: the model as it was trained, and as it is stored, on the eval split.
        storage: how the exported tables are stored.
        num_train_rows: rows of one pass over the train split.
        num_epochs: passes until the weights that were kept.
        num_reference_rows: raw rows that are stored beside the model; 0 for none.
        settings: {name: value} of the training, one line each.
        embedding: the layer that was trained, for a plan with chunks: it says what rows have.
    """
    validation = comparison.reference
    removed = [field.name for field in plan.fields if not field.dimension]
    means = {} if embedding is None or plan.chunks is None else embedding.mean_dimensions()
    fields = [f"| {_escape(field.name)} | {field.vocabulary_size:,} | {_size(field, means)} |" for field in plan.fields]
    lines = [
        f"# Model card: probability of `{label}`",
        "",
        f"Gives the probability that `{label}` is 1 from {len(plan.fields)} categorical fields, each embedded with as many",
        "dimensions as a search of keras-dimgrow or its configuration gave it (`plan.json`).",
        "",
        "## Data and quality",
        "",
        "| | |",
        "|---|---|",
        f"| rows trained on, each pass | {num_train_rows:,} |",
        f"| passes | {num_epochs:g} |",
        f"| rows evaluated on (eval split) | {validation.num_rows:,} |",
        f"| AUC on them | {validation.auc:.4f} |",
        f"| log loss on them, nats | {validation.log_loss:.4f} |",
        f"| tables stored as | {storage} |",
        f"| AUC, log loss by storing them so | {comparison.auc_difference:+.2g}, {comparison.log_loss_difference:+.2g} |",
        "",
        "The weights of the pass with the best log loss on the eval split were kept: expect slightly worse on new rows."
        " The Evaluator's figures are of the test split.",
        "",
        "## Fields",
        "",
        "| field | vocabulary | dimensions | parameters |",
        "|---|---|---|---|",
        *fields,
        f"| total | {sum(table.vocabulary_size for table in plan.tables):,} | {plan.total_dimensions} |"
        f" {plan.parameters:,} |",
        "",
        f"Embedding parameters: {plan.ratio_to_uniform(16):.1%} of those of 16 dimensions everywhere."
        + (_describe_pool(plan, embedding.summary()) if embedding and plan.chunks else "")
        + (f" Accepted and ignored: {', '.join(map(_escape, removed))}." if removed else ""),
        "",
        "## Use",
        "",
        "Every column may be absent: it then counts as missing. Values that were rare or not there in training count as",
        "unknown. Probabilities follow the share of positives in the training data; with another share, calibrate them.",
        "What the data misses or repeats of the past, the model does, too: look at its errors by group before use.",
        "",
        _describe_reference(num_reference_rows),
        "",
        "## How it was made",
        "",
        f"- TensorFlow {tf.__version__}, Keras {keras.__version__}",
        *(f"- {name}: {value}" for name, value in settings.items()),
    ]
    return "\n".join(lines) + "\n"


def _size(field: PlannedField, means: Mapping[str, float]) -> str:
    """Dimensions and parameters, as two cells."""
    if not field.is_chunked:
        return f"{field.dimension} | {field.parameters:,}"
    mean = means[field.name]
    return f"{mean:.3g} of {field.dimension}, by row | {round(mean * field.vocabulary_size):,}"


def _describe_pool(plan: EmbeddingPlan, pool: Mapping[str, int]) -> str:
    return (
        f" {plan.pool_parameters:,} of them are a pool of {pool['slots']:,} chunks that rows share, {pool['used']:,} in use."
        f" Until these weights, {pool['evicted']:,} chunks were evicted, {pool['allocated']:,} allocated, and"
        f" {pool['dropped']:,} times one found no room. Served are pool and index, 4 bytes for each chunk of each row."
    )


def _describe_reference(num_rows: int) -> str:
    if not num_rows:
        return "No reference outputs are stored beside the model."
    return (
        f"Beside the model lie {num_rows:,} raw rows and what Keras makes of them (`reference_*`), for\n"
        "`python -m serving check`. They are rows of the data as they are: delete the two files where those must not travel,\n"
        "or export without them (`serving.reference_rows: 0`)."
    )


def _escape(name: str) -> str:
    return name.replace("|", "\\|")
