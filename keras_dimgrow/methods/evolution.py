"""Evolution of a list of dimensions towards a lower loss: random candidates, mutations, crossovers (pure NumPy)."""

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from keras_dimgrow.config import Config

Candidate = tuple[int, ...]
DRAWS_PER_CANDIDATE = 20  # before it is given up that another candidate exists


@dataclasses.dataclass(frozen=True, kw_only=True)
class EvolutionConfig(Config):
    """Sizes of an evolution.

    Args:
        num_generations: how often candidates are drawn and evaluated, the first random ones included.
        num_mutations, num_crossovers: candidates of each kind in a generation; the first has as many random ones.
        num_parents: the best candidates so far, from which the next ones are made.
        mutation_probability: of each dimension of a mutated candidate to be drawn anew.

    Example:
        >>> EvolutionConfig().num_parents
        15
    """

    num_generations: int = 10
    num_mutations: int = 10
    num_crossovers: int = 10
    num_parents: int = 15
    mutation_probability: float = 0.1

    def __post_init__(self) -> None:
        for key in ("num_generations", "num_mutations", "num_parents"):
            self._require_int(key, 1)
        self._require_int("num_crossovers", 0)
        self._require_number("mutation_probability", 0.0, 1.0, above=True)


class Generation(NamedTuple):
    """The best candidate so far, its loss, and the number of candidates evaluated so far."""

    dimensions: Candidate
    loss: float
    num_evaluated: int


def evolve(
    losses_of: Callable[[np.ndarray], np.ndarray],
    bounds: Sequence[tuple[int, int]],
    config: EvolutionConfig,
    rng: np.random.Generator,
) -> Iterator[Generation]:
    """Generations of an evolution; the loss of the best candidate never rises, and no candidate is evaluated twice.

    Args:
        losses_of: candidates, int [K, T] -> their losses [K].
        bounds: least and most dimensions of each of the T tables.

    Ends before `num_generations` if no new candidate is found, as when all were evaluated.
    """
    low, high = np.array(bounds).T
    losses: dict[Candidate, float] = {}

    def at_random() -> np.ndarray:
        return rng.integers(low, high + 1)

    candidates = _draw_new(at_random, config.num_mutations + config.num_crossovers, losses)
    for _ in range(config.num_generations):
        if not candidates:
            return
        found = losses_of(np.array(candidates))
        losses |= {candidate: float(loss) for candidate, loss in zip(candidates, found, strict=True)}
        parents = sorted(losses, key=losses.__getitem__)[: config.num_parents]
        yield Generation(parents[0], losses[parents[0]], len(losses))
        pool = np.array(parents)

        def mutate(pool: np.ndarray = pool) -> np.ndarray:
            is_redrawn = rng.random(len(low)) < config.mutation_probability
            return np.where(is_redrawn, at_random(), rng.choice(pool))

        def cross(pool: np.ndarray = pool) -> np.ndarray:
            first, second = rng.choice(pool, 2)
            return np.where(np.arange(len(low)) < rng.integers(len(low) + 1), first, second)

        candidates = _draw_new(mutate, config.num_mutations, losses)
        candidates += _draw_new(cross, config.num_crossovers, {*losses, *candidates})


def _draw_new(draw: Callable[[], np.ndarray], count: int, known) -> list[Candidate]:
    """`count` different candidates that are not in `known`, or as many as were found."""
    drawn: dict[Candidate, None] = {}
    for _ in range(DRAWS_PER_CANDIDATE * count):
        if len(drawn) == count:
            break
        candidate = tuple(draw().tolist())
        if candidate not in known:
            drawn[candidate] = None
    return list(drawn)
