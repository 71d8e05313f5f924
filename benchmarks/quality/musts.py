"""What the results must show of one method: a list of figures, each an upper bound on a measured number."""

from collections.abc import Iterator, Mapping

from benchmarks.harness import Figure
from benchmarks.quality.data import Truth
from benchmarks.quality.results import BYTES_PER_TRAINED_PARAMETER, ORACLE, Group, Results
from benchmarks.quality.statistics import Estimate, difference

# Budgets at which planted data carries the proof, and at which public data must not lose to uniform 16.
PLANTED_BUDGETS = (0.1, 0.2)
PUBLIC_DATA, PUBLIC_BUDGET = ("adult", "taxi"), 0.5
MARGIN_OVER_RULES = 0.003
LARGE_SHARE = 0.01  # of the rows of all tables
MAX_ALLOCATION = 1.5

Measured = tuple[Figure, list[float]]


def measure(results: Results, subject: str, data: str, truth: Truth | None) -> list[Measured]:
    """Every figure that these results can speak to, with its measured numbers.

    Args:
        results: of one set of data.
        subject: the method that the figures are about.
        data: name of the data.
        truth: about the fields, where it is known.
    """
    figures: list[Measured] = []
    for budget in results.budgets:
        missing = [float(unfit.method == subject and unfit.budget == budget) for unfit in results.unfit]
        group = results.find(subject, budget)
        if group is None and not any(missing):
            continue
        figures.append((Figure(f"{budget:.3g}: searches without a plan", 0, 0), [sum(missing)]))
        if group is not None:
            is_planted = truth is not None and budget in PLANTED_BUDGETS
            figures += _compare(results, group, is_planted=is_planted)
            figures += _cost(results, group)
            if is_planted and truth is not None:
                figures += _hold_against(truth, results, group)
            if data in PUBLIC_DATA and budget == PUBLIC_BUDGET:
                name = f"{budget:.3g}: AUC of uniform 16 - AUC"
                figures.append((Figure(name, 0.0005, 0, is_mean=True), _shortfall(results.reference, group)))
    return figures


def _compare(results: Results, group: Group, *, is_planted: bool) -> Iterator[Measured]:
    """AUC against the best simple rule, and against the best other method within the budget."""
    budget = f"{group.budget:.3g}"
    rule = results.best_rule(group.budget)
    if rule is not None:
        must = -MARGIN_OVER_RULES if is_planted else _error(difference(rule.aucs, group.aucs))
        aim = -MARGIN_OVER_RULES if is_planted else -0.001
        name = f"{budget}: AUC of {rule.method}, the best rule, - AUC"
        yield Figure(name, must, aim, is_mean=True), _shortfall(rule, group)
    most = (group.budget or 0) * results.num_uniform_parameters * (1 + 1e-9)
    others = [
        other
        for other in _other_searches(results, group)
        if other.budget in (group.budget, None) and other.mean("parameters") <= most
    ]
    if others:
        differences = {other.method: difference(other.aucs, group.aucs) for other in others}
        best = max(others, key=lambda other: differences[other.method].mean - _error(differences[other.method]))
        name = f"{budget}: AUC of {best.method}, the nearest of {len(others)} other methods, - AUC"
        yield Figure(name, _error(differences[best.method]), -0.001, is_mean=True), _shortfall(best, group)


def _cost(results: Results, group: Group) -> Iterator[Measured]:
    """Parameters, own allocation, search time and stability."""
    budget, parameters = f"{group.budget:.3g}", (group.budget or 0) * results.num_uniform_parameters
    yield Figure(f"{budget}: parameters / budget", 1, 1), [max(row.parameters for row in group.rows) / parameters]
    peak = max(row.peak_table_bytes for row in group.rows) / BYTES_PER_TRAINED_PARAMETER
    yield Figure(f"{budget}: allocation / budget", MAX_ALLOCATION, MAX_ALLOCATION), [peak / parameters]
    seconds = results.reference.mean("train_seconds")
    without = [(row.search_seconds - row.race_seconds) / seconds for row in group.searches]
    yield Figure(f"{budget}: search without race / training of uniform 16", 1, 0.5, is_mean=True), without
    if any(row.race_seconds for row in group.searches):
        with_race = [row.search_seconds / seconds for row in group.searches]
        yield Figure(f"{budget}: search with race / training of uniform 16", 2, 1, is_mean=True), with_race
    others = [
        other for other in _other_searches(results, group) if other.budget in (group.budget, None) and other.is_trained
    ]
    if others:
        fastest = min(others, key=lambda other: other.mean("search_seconds"))
        ratio = group.mean("search_seconds") / fastest.mean("search_seconds")
        yield Figure(f"{budget}: search / that of {fastest.method}, the fastest other", 1, 1), [ratio]
    if group.correlation is not None:
        yield Figure(f"{budget}: 1 - correlation of seeds", 0.15, 0.05), [1 - group.correlation]


def _hold_against(truth: Truth, results: Results, group: Group) -> Iterator[Measured]:
    """AUC against the oracle plan, and the fields that were kept or lost wrongly."""
    budget = f"{group.budget:.3g}"
    oracle = results.find(ORACLE, None)
    if oracle is not None:
        share = oracle.mean("share")
        name = f"{budget}: AUC of the oracle ({share:.1%} of uniform 16) - AUC"
        yield Figure(name, 0.001, 0, is_mean=True), _shortfall(oracle, group)
    plans = [row.plan for row in group.searches]
    kept = [float(len(large_useless_kept(truth, plan, results.vocabulary_sizes))) for plan in plans]
    yield Figure(f"{budget}: large useless fields kept", 0, 0, is_mean=True), kept
    lost = [float(len(useful_lost(truth, plan))) for plan in plans]
    yield Figure(f"{budget}: useful fields lost", 0, 0, is_mean=True), lost


def large_useless_kept(truth: Truth, plan: Mapping[str, int], vocabulary_sizes: Mapping[str, int]) -> list[str]:
    """The useless fields with more than 1% of the rows of all tables that the plan keeps."""
    large = LARGE_SHARE * sum(vocabulary_sizes.values())
    return [field for field in plan if field in truth.useless and plan[field] and vocabulary_sizes[field] > large]


def useful_lost(truth: Truth, plan: Mapping[str, int]) -> list[str]:
    """The useful fields that the plan removes together with all their duplicates."""
    stand_ins = {
        truth.duplicates[field] for field, dimension in plan.items() if dimension and field in truth.duplicates
    }
    return [field for field, rank in truth.ranks.items() if rank and not plan[field] and field not in stand_ins]


def _other_searches(results: Results, group: Group) -> list[Group]:
    return [other for other in results.groups if other.method != group.method and not other.is_rule]


def _shortfall(other: Group, group: Group) -> list[float]:
    """AUC of `other` minus that of `group`: for each pair of equal seeds or, without pairs, of the means."""
    if other.aucs.keys() == group.aucs.keys():
        return [other.aucs[key] - group.aucs[key] for key in group.aucs]
    return [difference(other.aucs, group.aucs).mean]


def _error(estimate: Estimate) -> float:
    """The standard error; 0 where there are too few values for one: then nothing is forgiven."""
    return estimate.error if estimate.error == estimate.error else 0.0
