"""Which fields planted data has: their vocabularies, how uneven their ids are, and the dimensions that each needs."""

import dataclasses
from typing import Literal

Role = Literal["interacting", "linear", "useless", "duplicate", "correlated"]


@dataclasses.dataclass(frozen=True)
class PlantedField:
    """A field of planted data.

    Attributes:
        name: the role, or the rank of an interacting field, and a number.
        vocabulary_size: V; ids are 0 .. V - 1, and 0 is the most frequent one, except in duplicate and correlated fields.
        role: "interacting" (enters the logits by `rank` numbers an id, together with `partner`), "linear" (by one number an
            id), "useless", "duplicate" (a fixed permutation of the ids of `partner`), or "correlated" (for most rows a
            function of the id of `partner`, for the others random).
        rank: dimensions that the oracle plan gives to the field; 0 where it says nothing that another field does not.
        zipf: the i-th most frequent id is drawn in proportion to i^-zipf; unused in duplicate and correlated fields.
        strength: standard deviation of what the field adds to the logits, of an interacting field together with its partner.
        partner: see `role`.
    """

    name: str
    vocabulary_size: int
    role: Role
    rank: int = 0
    zipf: float = 0.5
    strength: float = 0.0
    partner: str | None = None


# Exponents of a large field and the small one that it interacts with. There are few ids on one side and few rare ones on the
# other: else networks overfit before they see an interaction in a few 100,000 rows, and all plans do equally badly.
UNEVEN = (1.3, 0.5)
VERY_UNEVEN = (1.5, 0.5)


def _pairs(rank: int, sizes: tuple[int, ...], strength: float, zipf: tuple[float, float] = (0.5, 0.5)):
    names = [f"rank{rank}_{i}" for i in range(len(sizes))]
    return [
        PlantedField(name, size, "interacting", rank, zipf[i % 2], strength, partner=names[i ^ 1])
        for i, (name, size) in enumerate(zip(names, sizes, strict=True))
    ]


def _linear(sizes: tuple[int, ...], strength: float, zipf: float = 0.5) -> list[PlantedField]:
    return [PlantedField(f"linear_{i}", size, "linear", 1, zipf, strength) for i, size in enumerate(sizes)]


def _useless(sizes: tuple[int, ...], zipf: float = 0.5) -> list[PlantedField]:
    return [PlantedField(f"useless_{i}", size, "useless", zipf=zipf) for i, size in enumerate(sizes)]


def _duplicates(*sources: PlantedField) -> list[PlantedField]:
    return [
        PlantedField(f"duplicate_{i}", source.vocabulary_size, "duplicate", partner=source.name)
        for i, source in enumerate(sources)
    ]


def _correlated(*sources: tuple[PlantedField, int]) -> list[PlantedField]:
    return [
        PlantedField(f"correlated_{i}", size, "correlated", partner=source.name)
        for i, (source, size) in enumerate(sources)
    ]


def _planted() -> list[PlantedField]:
    rank4 = _pairs(4, (2800, 16), 2.1, UNEVEN)
    rank2 = _pairs(2, (800, 16), 1.4, UNEVEN)
    redundant = [*_duplicates(rank2[0]), *_correlated((rank4[0], 200))]
    return [*rank4, *rank2, *_linear((600,), 0.5, zipf=0.7), *_useless((12, 5700), zipf=1.0), *redundant]


def _planted39() -> list[PlantedField]:
    rank6 = _pairs(6, (30_000, 12), 1.7, VERY_UNEVEN)
    rank4 = _pairs(4, (50_000, 12), 1.35, VERY_UNEVEN)
    rank3 = _pairs(3, (20_000, 12), 1.1, VERY_UNEVEN)
    rank2 = _pairs(2, (40_000, 12), 0.9, VERY_UNEVEN)
    rank1 = _pairs(1, (8000, 15), 0.6, VERY_UNEVEN)
    linear = _linear((30_000, 2500, 600, 80, 24, 10, 4), 0.27, zipf=1.2)
    useless = _useless((305_000, 200_000, 130_000, 80_000, 28_000, 1500, 350, 100, 40, 18, 10, 8, 6, 5, 4), zipf=1.05)
    duplicates = _duplicates(rank3[0], rank1[0], rank2[1])
    correlated = _correlated((rank6[0], 30_000), (rank4[0], 10_000), (rank3[0], 5000), (linear[0], 600))
    return [*rank6, *rank4, *rank3, *rank2, *rank1, *linear, *useless, *duplicates, *correlated]


def _small() -> list[PlantedField]:
    pairs = [*_pairs(4, (30, 60), 1.5), *_pairs(2, (40, 100), 1.0), *_pairs(1, (20, 200), 0.8)]
    return [*pairs, *_linear((8, 300), 0.4), *_useless((4, 30, 200, 800))]


def _full() -> list[PlantedField]:
    pairs = [*_pairs(4, (60, 400), 1.5), *_pairs(2, (20, 300, 50, 150), 1.0)]
    pairs += _pairs(1, (8, 600, 30, 200, 4, 60), 0.8)
    useless = (4, 4, 5, 6, 8, 10, 15, 20, 30, 50, 80, 120, 200, 300, 500, 800, 1500, 3000, 5000)
    return [*pairs, *_linear((4, 6, 12, 30, 80, 200, 600, 2000), 0.4), *_useless(useless)]


# "planted" is learned from 200,000 rows, "planted39" (a million rows of tables, as in Criteo) from 400,000; "small" and
# "full" have neither redundant fields nor large useless ones.
PROFILES: dict[str, tuple[PlantedField, ...]] = {
    "planted": tuple(_planted()),
    "planted39": tuple(_planted39()),
    "small": tuple(_small()),
    "full": tuple(_full()),
}
