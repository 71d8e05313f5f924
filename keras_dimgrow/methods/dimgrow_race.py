"""Which plans a search by utilities races, and which of them it returns."""

import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from keras_dimgrow.budget import UNIFORM_DIMENSION
from keras_dimgrow.config import Config
from keras_dimgrow.devices import BYTES_PER_TRAINED_PARAMETER
from keras_dimgrow.ledger import ERROR_WEIGHT, PROOF, Ledger
from keras_dimgrow.methods import log_vocabulary, mixed_dimension, uniform
from keras_dimgrow.methods.problem import SearchProblem, SearchResult
from keras_dimgrow.neighbours import neighbours
from keras_dimgrow.plan import EmbeddingPlan
from keras_dimgrow.race import race

if TYPE_CHECKING:
    from keras_dimgrow.methods.dimgrow import DimGrowConfig

# Steps of the rounds, as parts of the steps of the search.
ROUNDS = (1 / 6, 1 / 6, 1 / 6, 1 / 4, 1 / 4)
MIN_ROUND_STEPS = 40
RULES: dict[str, tuple[Callable[[SearchProblem, Any], SearchResult], Config]] = {
    "uniform": (uniform.run, uniform.UniformConfig()),
    "mixed_dimension": (mixed_dimension.run, mixed_dimension.MixedDimensionConfig()),
    "log_vocabulary": (log_vocabulary.run, log_vocabulary.LogVocabularyConfig()),
}
# Without a budget: the parts of all utility that smaller plans keep.
KEPT_UTILITY = (0.995, 0.98, 0.95)


@dataclasses.dataclass(frozen=True)
class Outcome:
    """The plan that a race leaves, what it says about it (None for nothing), and the race's records."""

    plan: EmbeddingPlan
    note: str | None
    records: list[dict[str, Any]]


def race_plans(
    problem: SearchProblem, config: "DimGrowConfig", ledger: Ledger, found: EmbeddingPlan, num_steps: int
) -> Outcome:
    """Races `found`: within a budget against other plans of that budget, else against smaller ones and uniform 16."""
    steps = [max(MIN_ROUND_STEPS, round(part * num_steps)) for part in ROUNDS]
    start = _start_plan(problem)
    max_table_bytes = None
    if problem.max_parameters is None:
        plans = {"found": found} | start | _smaller_plans(problem, ledger, found)
        plans["uniform"] = EmbeddingPlan.uniform(problem.fields, UNIFORM_DIMENSION)
        steps = [sum(steps)]  # all to the end: the smallest good one is asked for, not the best
    else:
        plans = {"found": found} | start | plans_within(problem, ledger, found, problem.max_parameters)
        max_table_bytes = int(config.kappa * problem.max_parameters) * BYTES_PER_TRAINED_PARAMETER
    raced = race(
        plans,
        problem.train_data,
        problem.require_validation_data("dimgrow"),
        incumbent="found",
        model_config=problem.model_config,
        learning_rate=config.learning_rate,
        round_steps=steps,
        seed=problem.seed,
        max_table_bytes=max_table_bytes,
    )
    if not raced.records:
        return Outcome(found, None, [])
    if problem.max_parameters is None:
        return _smallest_within_tolerance(plans, raced.records, config.tolerance)
    if raced.winner == "found":
        return Outcome(found, None, raced.records)
    gain = next(record["gain"] for record in reversed(raced.records) if record["name"] == raced.winner)
    note = f"The race replaced what the search had found by {raced.winner!r}: {gain:.5f} nats less held-out loss."
    return Outcome(raced.plan, note, raced.records)


def _start_plan(problem: SearchProblem) -> dict[str, EmbeddingPlan]:
    """The plan that the search started from, if there is one that still fits: what it found must do better."""
    if problem.start is None:
        return {}
    earlier = problem.start.dimensions
    dims = [min(max(earlier.get(table.name, 1), table.min_dim), table.max_dim) for table in problem.tables]
    if not any(dims):
        return {}
    plan = problem.plan(dims)
    fits = problem.max_parameters is None or plan.parameters <= problem.max_parameters
    return {"start": plan} if fits else {}


def plans_within(problem: SearchProblem, ledger: Ledger, found: EmbeddingPlan, budget: int) -> dict[str, EmbeddingPlan]:
    """The contestants of `found`: its near-optimal neighbours, others of the same search, and the rules that fit."""
    curves, minimum = ledger.curves_and_minimum(budget, PROOF)
    near = neighbours(
        curves,
        ledger.sizes.tolist(),
        budget,
        minimum.tolist(),
        ledger.proven_dims(budget, PROOF).tolist(),
        num_expensive=2,
    )
    dims = {f"neighbour {number}": ledger.with_spare(other, budget) for number, other in enumerate(near, 1)}
    dims["lenient"] = ledger.plan_dims(budget, ERROR_WEIGHT)
    dims["filled"] = ledger.filled(ledger.proven_dims(budget, PROOF), budget)
    dims["unfilled"] = ledger.proven_dims(budget)
    # With few fields, a neighbour may have none left.
    plans = {name: problem.plan(each) for name, each in dims.items() if np.any(each)}
    for name, (run, rule_config) in RULES.items():
        try:
            plans[name] = run(dataclasses.replace(problem, max_parameters=budget), rule_config).plan
        except ValueError:
            continue  # one dimension for each field does not fit
    return plans


def _smaller_plans(problem: SearchProblem, ledger: Ledger, found: EmbeddingPlan) -> dict[str, EmbeddingPlan]:
    """Plans that keep these parts of the utility, each with the fewest parameters (by bisection over budgets)."""
    curves, minimum = ledger.curves_and_minimum(UNIFORM_DIMENSION * int(ledger.sizes.sum()))
    dims = [found.dimensions[table.name] for table in problem.tables]

    def utility(dims) -> float:
        return sum(float(curve[dim]) for curve, dim in zip(curves, dims, strict=True))

    whole, plans = utility(dims), {}
    for part in KEPT_UTILITY:
        low, high = max(1, int(ledger.sizes @ minimum)), found.parameters
        while high - low > max(1, found.parameters // 200):
            middle = (low + high) // 2
            if utility(ledger.proven_dims(middle)) >= part * whole:
                high = middle
            else:
                low = middle
        smaller = ledger.proven_dims(high)
        if smaller.any():
            plans[f"{part:g} of the utility"] = problem.plan(smaller)
    return plans


def _smallest_within_tolerance(
    plans: dict[str, EmbeddingPlan], records: list[dict[str, Any]], tolerance: float
) -> Outcome:
    aucs = {record["name"]: record["auc"] for record in records}
    reference = next(record["auc"] for record in records if "uniform" in (record["name"], *record["same_plan_as"]))
    least = (1 - tolerance) * reference
    good = [name for name, auc in aucs.items() if auc >= least]
    winner = min(good, key=lambda name: plans[name].parameters)
    note = (
        f"Held-out AUC in the race: {aucs[winner]:.4f} with {plans[winner].parameters} parameters, "
        f"{reference:.4f} with uniform {UNIFORM_DIMENSION}."
    )
    return Outcome(plans[winner], note, records)
