"""Evolution: better or as good with every generation, within bounds, and never the same candidate twice."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_dimgrow.methods.evolution import EvolutionConfig, evolve


class Distance:
    """The loss of a candidate is its distance to `target`; remembers all candidates."""

    def __init__(self, target):
        self.target = np.array(target)
        self.batches: list[list[tuple[int, ...]]] = []

    def __call__(self, candidates):
        self.batches.append([tuple(candidate) for candidate in candidates.tolist()])
        return np.abs(candidates - self.target).sum(1).astype(float)

    @property
    def seen(self):
        return list(itertools.chain(*self.batches))


bounds_lists = st.lists(st.tuples(st.integers(1, 4), st.integers(4, 16)), min_size=1, max_size=6)


@settings(deadline=None, max_examples=30)
@given(bounds_lists, st.integers(0, 99))
def test_the_best_loss_never_rises_and_candidates_are_new_and_within_bounds(bounds, seed):
    losses_of = Distance([low for low, _ in bounds])

    generations = list(evolve(losses_of, bounds, EvolutionConfig(num_generations=6), np.random.default_rng(seed)))

    losses = [generation.loss for generation in generations]
    assert losses == sorted(losses, reverse=True)
    assert len(set(losses_of.seen)) == len(losses_of.seen) == generations[-1].num_evaluated
    assert all(low <= dim <= high for c in losses_of.seen for dim, (low, high) in zip(c, bounds, strict=True))
    assert losses[-1] == min(np.abs(np.array(losses_of.seen) - losses_of.target).sum(1))


def test_evolution_finds_the_target_where_as_many_random_candidates_do_not():
    bounds, target = [(1, 16)] * 8, [3, 1, 4, 1, 5, 9, 2, 6]
    config = EvolutionConfig(num_generations=60)

    *_, best = evolve(Distance(target), bounds, config, np.random.default_rng(0))

    drawn = np.random.default_rng(0).integers(1, 17, (best.num_evaluated, 8))
    assert best.loss <= 2 < 10 < np.abs(drawn - target).sum(1).min()


def test_a_generation_has_as_many_candidates_as_asked_for():
    losses_of = Distance([1] * 8)
    config = EvolutionConfig(num_generations=3, num_mutations=4, num_crossovers=2)

    assert len(list(evolve(losses_of, [(1, 16)] * 8, config, np.random.default_rng(0)))) == 3

    assert [len(batch) for batch in losses_of.batches] == [6, 6, 6]


def test_evolution_ends_when_every_candidate_was_evaluated():
    losses_of = Distance([2])

    *_, best = evolve(losses_of, [(1, 3)], EvolutionConfig(mutation_probability=1.0), np.random.default_rng(0))

    assert best == ((2,), 0.0, 3)
    assert sorted(losses_of.seen) == [(1,), (2,), (3,)]


def test_crossovers_take_a_head_of_one_parent_and_the_tail_of_another():
    losses_of = Distance([1] * 12)
    config = EvolutionConfig(num_generations=2, num_mutations=1, num_crossovers=9, num_parents=10)

    list(evolve(losses_of, [(1, 1000)] * 12, config, np.random.default_rng(0)))

    parents, (_, *crossed) = losses_of.batches
    for child in crossed:
        assert any(
            child == first[:point] + second[point:]
            for first, second in itertools.permutations(parents, 2)
            for point in range(13)
        )


@pytest.mark.parametrize(
    "values", [{"num_generations": 0}, {"num_mutations": 0}, {"num_crossovers": -1}, {"mutation_probability": 0.0}]
)
def test_settings_out_of_range_are_refused(values):
    with pytest.raises(ValueError, match=f"EvolutionConfig: {next(iter(values))} must be"):
        EvolutionConfig(**values)
