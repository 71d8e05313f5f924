"""Planted click data: how many dimensions each field needs is known, because the logits were made of so many.

Rows come in blocks that are seeded one by one: any number of them is drawn in bounded memory, and the first rows of a
longer draw are those of a shorter one.
"""

import dataclasses
import zlib
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from keras_dimgrow import Field
from pipeline.datasets.labelled_rows import LabelledRows
from pipeline.datasets.planted_auc import bayes_auc
from pipeline.datasets.planted_profiles import PROFILES, PlantedField
from pipeline.datasets.planted_teachers import TEACHERS
from pipeline.errors import UserError

LABEL_NOISE = 0.02
CORRELATED_SHARE = 0.7
SPLITS = {"train": 0.7, "validation": 0.15, "test": 0.15}
NUM_ROWS_PER_BLOCK = 16_384


class Chunk(NamedTuple):
    """Rows: ids int32 [rows, F], labels float32 [rows] (0 or 1), probabilities float32 [rows] of label 1."""

    ids: np.ndarray
    labels: np.ndarray
    probabilities: np.ndarray


@dataclasses.dataclass(frozen=True)
class Planted(LabelledRows):
    """Planted rows, and the truth about them.

    Attributes:
        ranks: field name -> dimensions that it needs: the oracle plan.
        probabilities: float32 [rows], of label 1, label noise included.
    """

    ranks: Mapping[str, int]
    probabilities: np.ndarray

    def bayes_auc(self, split: str) -> float:
        """The AUC that nobody exceeds, in expectation over the labels, on the rows of a split."""
        return bayes_auc(self.probabilities[self.splits[split]])


def make_planted(
    profile: str, num_rows: int, *, teacher: int = 0, seed: int = 0, label_noise: float = LABEL_NOISE
) -> Planted:
    """Draws planted rows: the first 70% to train, 15% to validate, 15% to test.

    Args:
        profile: a name in PROFILES.
        num_rows: rows in all.
        teacher: number of what makes the labels: 0, 3, 6 ... are factorisations, 1, 4 ... networks, 2, 5 ... mixed forms;
            no two of them share a draw.
        seed: seed of everything.
        label_noise: share of the labels that are coin flips.

    Raises:
        UserError: for a profile that there is none of, or numbers out of range.
    """
    chunks = list(stream(profile, num_rows, teacher=teacher, seed=seed, label_noise=label_noise))
    ids, labels, probabilities = (np.concatenate(parts) for parts in zip(*chunks, strict=True))
    planted_fields = PROFILES[profile]
    return Planted(
        fields=make_fields(planted_fields),
        ids=ids,
        labels=labels,
        splits=split_rows(num_rows),
        ranks={field.name: field.rank for field in planted_fields},
        probabilities=probabilities,
    )


def make_fields(fields: Sequence[PlantedField]) -> tuple[Field, ...]:
    """The fields as the library takes them."""
    return tuple(Field(name=field.name, vocabulary_size=field.vocabulary_size) for field in fields)


def split_rows(num_rows: int) -> dict[str, slice]:
    """ "train", "validation" and "test" -> slice of the rows, one behind the other."""
    ends = [round(share * num_rows) for share in np.cumsum(list(SPLITS.values()))]
    return {name: slice(start, end) for name, start, end in zip(SPLITS, [0, *ends[:-1]], ends, strict=True)}


def stream(
    profile: str,
    num_rows: int,
    *,
    teacher: int = 0,
    seed: int = 0,
    label_noise: float = LABEL_NOISE,
    chunk_rows: int = NUM_ROWS_PER_BLOCK,
) -> Iterator[Chunk]:
    """Yields the rows of `make_planted`, `chunk_rows` at a time (the last chunk may be shorter).

    Args: see `make_planted`; the rows do not depend on `chunk_rows`.
    """
    _check(profile, num_rows, teacher, seed, label_noise, chunk_rows)
    return _cut(_blocks(profile, num_rows, teacher, seed, label_noise), chunk_rows)


def _check(profile: str, num_rows: int, teacher: int, seed: int, label_noise: float, chunk_rows: int) -> None:
    if profile not in PROFILES:
        raise UserError(f"profile {profile!r} is unknown. Choose one of: {', '.join(PROFILES)}.")
    numbers = ("num_rows", num_rows, 1), ("teacher", teacher, 0), ("seed", seed, 0), ("chunk_rows", chunk_rows, 1)
    for name, value, minimum in numbers:
        if value < minimum:
            raise UserError(f"planted data: {name} must be >= {minimum}; received {name}={value}.")
    if not 0 <= label_noise <= 1:
        raise UserError(f"planted data: label_noise must be a share in [0, 1]; received label_noise={label_noise}.")


def _cut(blocks: Iterator[Chunk], chunk_rows: int) -> Iterator[Chunk]:
    waiting: list[Chunk] = []
    num_waiting = 0
    for block in blocks:
        while num_waiting + len(block.labels) >= chunk_rows:
            end = chunk_rows - num_waiting
            yield _join([*waiting, Chunk(*(part[:end] for part in block))])
            block, waiting, num_waiting = Chunk(*(part[end:] for part in block)), [], 0
        waiting.append(block)
        num_waiting += len(block.labels)
    if num_waiting:
        yield _join(waiting)


def _join(chunks: list[Chunk]) -> Chunk:
    return Chunk(*(np.concatenate(parts) for parts in zip(*chunks, strict=True)))


def _blocks(profile: str, num_rows: int, teacher: int, seed: int, label_noise: float) -> Iterator[Chunk]:
    world = _World(profile, teacher, seed)
    for block, start in enumerate(range(0, num_rows, NUM_ROWS_PER_BLOCK)):
        rng = np.random.default_rng([*world.key, 1, block])
        ids = world.draw_ids(rng, NUM_ROWS_PER_BLOCK)
        probabilities = 1 / (1 + np.exp(-world.logits(ids)))
        probabilities = ((1 - label_noise) * probabilities + label_noise / 2).astype(np.float32)
        labels = (rng.random(NUM_ROWS_PER_BLOCK) < probabilities).astype(np.float32)
        end = min(NUM_ROWS_PER_BLOCK, num_rows - start)
        yield Chunk(np.stack(list(ids.values()), axis=1)[:end], labels[:end], probabilities[:end])


class _World:
    """All that is drawn once: the numbers of the ids, what redundant fields make of others, and the teacher."""

    def __init__(self, profile: str, teacher: int, seed: int):
        self.key = [seed, teacher, zlib.crc32(profile.encode())]
        rng = np.random.default_rng([*self.key, 0])
        self._fields = PROFILES[profile]
        self._cumulative, self._latents, self._renamed = {}, {}, {}
        sizes = {field.name: field.vocabulary_size for field in self._fields}
        for field in self._fields:
            if field.partner and field.role != "interacting":
                renamed = rng.permutation(sizes[field.partner]) % field.vocabulary_size
                self._renamed[field.name] = renamed.astype(np.int32)
                continue
            weights = np.arange(1.0, field.vocabulary_size + 1) ** -field.zipf
            weights /= weights.sum()
            self._cumulative[field.name] = np.cumsum(weights)[:-1]
            if field.rank:
                self._latents[field.name] = _draw_latents(rng, weights, field.rank)
        reference = self._look_up(self.draw_ids(rng, NUM_ROWS_PER_BLOCK))
        self._teacher = TEACHERS[teacher % len(TEACHERS)](self._fields, reference, rng)

    def draw_ids(self, rng: np.random.Generator, num_rows: int) -> dict[str, np.ndarray]:
        """Field name -> int32 [num_rows], in the fields' order."""
        ids: dict[str, np.ndarray] = {}
        for field in self._fields:
            if field.role in ("duplicate", "correlated"):
                source = ids[str(field.partner)]
                if field.role == "correlated":
                    others = self._draw(rng, str(field.partner), num_rows)
                    source = np.where(rng.random(num_rows) < CORRELATED_SHARE, source, others)
                ids[field.name] = self._renamed[field.name][source]
            else:
                ids[field.name] = self._draw(rng, field.name, num_rows)
        return ids

    def logits(self, ids: Mapping[str, np.ndarray]) -> np.ndarray:
        """Logits [rows] of the rows with these ids."""
        return self._teacher.logits(self._look_up(ids))

    def _look_up(self, ids: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        return {name: latents[ids[name]] for name, latents in self._latents.items()}

    def _draw(self, rng: np.random.Generator, name: str, num_rows: int) -> np.ndarray:
        return np.searchsorted(self._cumulative[name], rng.random(num_rows), side="right").astype(np.int32)


def _draw_latents(rng: np.random.Generator, weights: np.ndarray, rank: int) -> np.ndarray:
    """`rank` numbers for each id, [V, rank]: over rows, of mean 0, variance 1 and uncorrelated."""
    values = rng.normal(size=(len(weights), rank))
    values -= weights @ values
    covariance = (values * weights[:, None]).T @ values
    return np.linalg.solve(np.linalg.cholesky(covariance), values.T).T
