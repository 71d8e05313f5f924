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


def _pair(number: int, rank: int, sizes: tuple[int, int], strength: float, zipf: tuple[float, float] = (0.5, 0.5)):
    names = f"rank{rank}_{number}", f"rank{rank}_{number + 1}"
    return [
        PlantedField(names[i], sizes[i], "interacting", rank, zipf[i], strength, partner=names[1 - i]) for i in (0, 1)
    ]


def _pairs(rank: int, sizes: tuple[int, ...], strength: float) -> list[PlantedField]:
    pairs = enumerate(zip(sizes[::2], sizes[1::2], strict=True))
    return [field for i, pair in pairs for field in _pair(2 * i, rank, pair, strength)]


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
    rank4 = _pair(0, 4, (2400, 300), 1.5, (0.9, 0.5))
    rank2 = _pair(0, 2, (500, 300), 1.05, (0.7, 0.5))
    useful = [*rank4, *rank2, *_linear((600,), 0.5, zipf=0.7)]
    redundant = [*_duplicates(rank2[0]), *_correlated((rank4[0], 300))]
    return [*useful, *_useless((12, 5200), zipf=1.0), *redundant]


def _planted39() -> list[PlantedField]:
    rank6 = _pair(0, 6, (30_000, 200), 1.02, (1.1, 0.5))
    rank4 = _pair(0, 4, (50_000, 1000), 0.84, (1.1, 0.7))
    rank3 = _pair(0, 3, (20_000, 100), 0.72, (1.05, 0.5))
    rank2 = [*_pair(0, 2, (40_000, 60), 0.6, (1.1, 0.5)), *_pair(2, 2, (3000, 500), 0.6, (0.9, 0.7))]
    rank1 = [*_pair(0, 1, (8000, 30), 0.42, (1.0, 0.5)), *_pair(2, 1, (400, 15), 0.42)]
    linear = [*_linear((30_000, 2500), 0.3, zipf=1.05), *_linear_from(2, (600, 80, 24, 4), 0.25)]
    large = (305_000, 180_000, 95_000, 52_000, 12_000)
    useless = [*_useless(large, zipf=1.05), *_useless_from(len(large), (1500, 350, 100, 40, 18, 10, 6, 4))]
    duplicates = _duplicates(rank4[0], rank2[2], rank1[2])
    correlated = _correlated((rank6[0], 30_000), (rank3[0], 5000), (linear[0], 600))
    return [*rank6, *rank4, *rank3, *rank2, *rank1, *linear, *useless, *duplicates, *correlated]


def _linear_from(first: int, sizes: tuple[int, ...], strength: float) -> list[PlantedField]:
    return [PlantedField(f"linear_{first + i}", size, "linear", 1, 0.5, strength) for i, size in enumerate(sizes)]


def _useless_from(first: int, sizes: tuple[int, ...]) -> list[PlantedField]:
    return [PlantedField(f"useless_{first + i}", size, "useless") for i, size in enumerate(sizes)]


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
