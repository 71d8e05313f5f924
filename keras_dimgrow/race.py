"""Race of plans: all trained briefly and alike from scratch, halved on held-out loss until one is left to beat.

Successive halving (Jamieson & Talwalkar 2016, arXiv 1502.07943): in each round every plan that is left is trained for
some steps more on the same batches, and the worse half leaves. The incumbent stays to the end and wins unless another
plan's log loss is better by more than one standard error of the paired difference over the held-out rows.
"""

import dataclasses
import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from keras_dimgrow.devices import BYTES_PER_TRAINED_PARAMETER
from keras_dimgrow.evaluation import roc_auc
from keras_dimgrow.models import ModelConfig
from keras_dimgrow.plan import EmbeddingPlan
from keras_dimgrow.race_states import RaceStates
from keras_dimgrow.race_track import Chunk, Track, read_chunks, shares_track

MAX_BLOCK_BYTES = 2**30  # of ids that contestants train on before the next ones are read


@dataclasses.dataclass(frozen=True)
class RaceResult:
    """Who won, and how.

    Attributes:
        winner: name of the plan that won.
        plan: that plan.
        records: one a round and contestant: round, name, same_plan_as (names of equal plans), parameters, steps (so far),
            log_loss and auc (at its best round so far, as a training would stop there), gain (mean of the incumbent's row loss
            minus this one's), standard_error (of gain), is_eliminated.
    """

    winner: str
    plan: EmbeddingPlan
    records: list[dict[str, Any]]


def race(
    plans: Mapping[str, EmbeddingPlan],
    train_data: tf.data.Dataset,
    validation_data: tf.data.Dataset,
    *,
    incumbent: str,
    model_config: ModelConfig | None = None,
    learning_rate: float = 1e-3,
    round_steps: Sequence[int] = (100, 100, 200),
    seed: int = 0,
    max_table_bytes: int | None = None,
    on_round: Callable[[list[dict[str, Any]]], None] | None = None,
) -> RaceResult:
    """Trains all plans alike, round by round, and gives the one that the held-out rows prefer.

    Equal plans are one contestant, under the incumbent's name or the first one. Steps equal those of `fit` with
    `LazyAdam(learning_rate)` on a `PlannedEmbedding` and `build_model`, all with `seed`.

    Args:
        plans: the contestants by name, over the same fields.
        train_data: batches of ({field: ids}, label [B]), repeated as often as needed; every contestant gets the same. Up to 1
            GiB of ids are in memory at a time: contestants take turns more often where a round has more.
        validation_data: held-out batches; the first 1 GiB of ids are read, once, and kept in memory.
        incumbent: name of the plan that wins unless another is clearly better.
        model_config: the backbone and its sizes.
        learning_rate: of LazyAdam.
        round_steps: training steps of each round, on top of those before.
        seed: seed of everything random.
        max_table_bytes: most bytes of embedding tables with optimizer slots (12 per parameter) held in memory at once;
            contestants beyond it wait on disk. None: all in memory.
        on_round: called with the records of each round.

    Raises:
        ValueError: if there is no such incumbent or no step, plans have different fields, data are empty, or one plan alone
            exceeds max_table_bytes.
    """
    contestants, equals = _distinct(plans, incumbent)
    _require_runnable(contestants, incumbent, round_steps, max_table_bytes)
    if len(contestants) == 1:
        return RaceResult(incumbent, plans[incumbent], [])
    model_config = model_config or ModelConfig()
    fields = plans[incumbent].fields
    track_plans: list[list[EmbeddingPlan]] = []
    for plan in contestants.values():
        sharing = next((group for group in track_plans if shares_track(group[0], plan, model_config)), None)
        if sharing is None:
            track_plans.append(sharing := [])
        sharing.append(plan)
    validation, _ = _read_block(iter(validation_data), None, fields)
    _require_rows(validation, "validation_data")
    labels = np.concatenate([chunk.labels.numpy() for chunk in validation])
    batches = iter(train_data.repeat())
    largest = max(plan.parameters for plan in contestants.values())
    left, records = list(contestants), []
    with RaceStates(
        None if max_table_bytes is None else max_table_bytes - BYTES_PER_TRAINED_PARAMETER * largest
    ) as states:
        tracks = [Track(group, model_config, learning_rate, seed) for group in track_plans]
        track_of = {
            name: next(track for track, group in zip(tracks, track_plans, strict=True) if plan in group)
            for name, plan in contestants.items()
        }
        row_losses: dict[str, np.ndarray] = {}
        aucs: dict[str, float] = {}
        for number, steps in enumerate(round_steps):
            steps_left, is_start = steps, not number
            while steps_left:
                chunks, num_batches = _read_block(batches, steps_left, fields)
                _require_rows(chunks, "train_data")
                steps_left -= num_batches
                for name in left:
                    track = track_of[name]
                    if is_start:
                        track.start(contestants[name])
                    else:
                        track.load(states.take(name))
                    track.train(chunks)
                    if not steps_left:
                        p = track.predict(validation)
                        losses = _row_losses(labels, p)
                        if not number or losses.mean() < row_losses[name].mean():
                            row_losses[name], aucs[name] = losses, roc_auc(labels, p.ravel())
                    states.put(name, track.unload())
                is_start = False
            is_last = number == len(round_steps) - 1
            kept = left if is_last else survivors({name: row_losses[name].mean() for name in left}, incumbent)
            of_round = [
                {
                    "round": number + 1,
                    "name": name,
                    "same_plan_as": equals[name],
                    "parameters": contestants[name].parameters,
                    "steps": sum(round_steps[: number + 1]),
                    "log_loss": float(row_losses[name].mean()),
                    "auc": aucs[name],
                    **_gain(row_losses[incumbent], row_losses[name]),
                    "is_eliminated": name not in kept,
                }
                for name in left
            ]
            records += of_round
            if on_round is not None:
                on_round(of_round)
            left = kept
    winner = judge(of_round, incumbent)
    return RaceResult(winner, contestants[winner], records)


def survivors(log_losses: Mapping[str, float], incumbent: str) -> list[str]:
    """The better half, at least two, with the incumbent among them; in the order they came."""
    num_kept = max(2, math.ceil(len(log_losses) / 2))
    others = sorted((name for name in log_losses if name != incumbent), key=lambda name: log_losses[name])
    kept = {incumbent, *others[: num_kept - 1]}
    return [name for name in log_losses if name in kept]


def judge(records: Sequence[Mapping[str, Any]], incumbent: str) -> str:
    """The plan of least log loss if it gains more than one standard error on the incumbent, else the incumbent."""
    best = min(records, key=lambda record: record["log_loss"])
    return best["name"] if best["gain"] > best["standard_error"] else incumbent


def _distinct(
    plans: Mapping[str, EmbeddingPlan], incumbent: str
) -> tuple[dict[str, EmbeddingPlan], dict[str, list[str]]]:
    """The different plans, the incumbent first, and the names of the plans equal to each."""
    if incumbent not in plans:
        raise ValueError(f"race: the incumbent must be one of the plans {sorted(plans)}; received {incumbent!r}.")
    distinct: dict[str, EmbeddingPlan] = {}
    equals: dict[str, list[str]] = {}
    for name in (incumbent, *(name for name in plans if name != incumbent)):
        twin = next((other for other, plan in distinct.items() if plan == plans[name]), None)
        if twin is None:
            distinct[name], equals[name] = plans[name], []
        else:
            equals[twin].append(name)
    return distinct, equals


def _require_runnable(
    plans: Mapping[str, EmbeddingPlan], incumbent: str, round_steps: Sequence[int], max_table_bytes: int | None
) -> None:
    if not round_steps or min(round_steps) < 1:
        raise ValueError(f"race: round_steps must be numbers of steps >= 1, one a round; received {round_steps!r}.")
    for name, plan in plans.items():
        if [field.name for field in plan.fields] != [field.name for field in plans[incumbent].fields]:
            raise ValueError(
                f"race: plans must have the same fields; received {list(plan.dimensions)} in {name!r} and "
                f"{list(plans[incumbent].dimensions)} in {incumbent!r}."
            )
        table_bytes = BYTES_PER_TRAINED_PARAMETER * plan.parameters
        if max_table_bytes is not None and table_bytes > max_table_bytes:
            raise ValueError(
                f"race: plan {name!r} takes {table_bytes} bytes of tables with slots; received "
                f"max_table_bytes={max_table_bytes}. Raise it, or leave this plan out."
            )


def _read_block(batches: Iterator, max_batches: int | None, fields: Sequence) -> tuple[list[Chunk], int]:
    """The next batches, as many as there may be in memory, and their number."""
    taken: list = []
    num_bytes = 0
    for inputs, labels in itertools.islice(batches, max_batches):
        taken.append((inputs, labels))
        num_bytes += sum(np.asarray(values).nbytes for values in inputs.values())
        if num_bytes >= MAX_BLOCK_BYTES:
            break
    return read_chunks(taken, fields), len(taken)


def _require_rows(chunks: Sequence, name: str) -> None:
    if not chunks:
        raise ValueError(f"race: {name} has no batches. Pass a dataset of ({{field: ids}}, label [B]).")


def _row_losses(labels: np.ndarray, p: np.ndarray) -> np.ndarray:
    """Log loss of each row in nats, as `evaluate` has it."""
    clipped = np.clip(p.astype(np.float64), 1e-7, 1 - 1e-7)
    return -np.where(labels > 0, np.log(clipped), np.log1p(-clipped))


def _gain(incumbent_losses: np.ndarray, losses: np.ndarray) -> dict[str, float]:
    """Mean and standard error of the paired differences."""
    differences = incumbent_losses - losses
    spread = float(differences.std(ddof=1)) if len(differences) > 1 else 0.0
    return {"gain": float(differences.mean()), "standard_error": spread / math.sqrt(len(differences))}
