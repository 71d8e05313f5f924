"""The results in words and numbers: one table a budget, for the console and for the page."""

import dataclasses
import math
from collections.abc import Sequence

import rich.console
import rich.table

from benchmarks.quality.results import ORACLE, REFERENCE, Group, Results
from benchmarks.quality.statistics import Estimate
from keras_dimgrow.report.formats import in_bytes

HEADINGS = (
    *("method", "parameters", "of budget", "AUC", "log loss", "over best rule", "over uniform", "search / uniform 16"),
    *("without race", "peak bytes", "seeds agree"),
)


@dataclasses.dataclass(frozen=True)
class Table:
    """A title, headings, one row of cells a method, and lines below."""

    title: str
    headings: Sequence[str]
    rows: Sequence[Sequence[str]]
    notes: Sequence[str] = ()


def make_tables(results: Results) -> list[Table]:
    """A table for each budget, with uniform 16 and the oracle beside, and one of what was given no budget."""
    references = [group for group in results.at(None) if group.method in (REFERENCE, ORACLE)]
    tables = []
    for budget in results.budgets:
        parameters = budget * results.num_uniform_parameters
        title = f"Budget {budget:.3g} of uniform 16: {parameters:,.0f} parameters"
        rows = [_row(results, group, parameters) for group in [*results.at(budget), *references]]
        tables.append(Table(title, HEADINGS, rows, _notes(results, budget)))
    rows = [_row(results, group, None) for group in results.at(None)]
    return [*tables, Table("Without a budget", HEADINGS, rows, _notes(results, None))]


def print_tables(console: rich.console.Console, tables: Sequence[Table]) -> None:
    """Prints tables on a console."""
    for table in tables:
        shown = rich.table.Table(title=table.title, title_justify="left")
        for index, heading in enumerate(table.headings):
            shown.add_column(heading, justify="right" if index else "left", overflow="fold")
        for row in table.rows:
            shown.add_row(*row)
        console.print(shown)
        for note in table.notes:
            console.print(note, style="dim")


def with_error(value: Estimate, sign: str = "") -> str:
    """A mean and its standard error: 0.8123 ± 0.0004."""
    error = "" if math.isnan(value.error) else f" ± {value.error:.4f}"
    return f"{value.mean:{sign}.4f}{error}"


def _row(results: Results, group: Group, parameters: float | None) -> list[str]:
    over_rule = "" if group.budget is None else _over_rule(results, group)
    over_uniform = None if group.method.startswith("uniform ") else results.over_uniform(group)
    agreement = group.correlation
    is_searched = not group.is_rule
    return [
        group.method,
        f"{group.mean('parameters'):,.0f}",
        "" if parameters is None else f"{group.mean('parameters') / parameters:.3f}",
        with_error(group.auc),
        f"{group.mean('log_loss'):.4f}",
        over_rule,
        "" if over_uniform is None else f"{over_uniform:+.4f}",
        f"{results.search_ratio(group):.2f}" if is_searched else "",
        f"{results.search_ratio(group, with_race=False):.2f}" if is_searched else "",
        in_bytes(max(row.peak_embedding_bytes for row in group.rows)),
        f"{agreement:.2f}" if is_searched and agreement is not None else "",
    ]


def _over_rule(results: Results, group: Group) -> str:
    """AUC minus that of the best simple rule, in words where it is that rule."""
    rule, over_rule = results.best_rule(group.budget), results.over_rule(group)
    if rule is None or over_rule is None:
        return "no rule fits"
    return "best rule" if rule.method == group.method else with_error(over_rule, "+")


def _notes(results: Results, budget: float | None) -> list[str]:
    """One line for each method that gave no plan, with the seeds."""
    seeds: dict[tuple[str, str], list[int]] = {}
    for unfit in results.unfit:
        if unfit.budget == budget:
            seeds.setdefault((unfit.method, unfit.note), []).append(unfit.seed)
    return [
        f"{method}, seed {', '.join(str(seed) for seed in found)}: {note}" for (method, note), found in seeds.items()
    ]
