"""The section `search` of a configuration: which method looks for the dimensions, and within which budget."""

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Self

from pipeline.config_values import Section, did_you_mean
from pipeline.errors import UserError

if TYPE_CHECKING:
    from keras_dimgrow.config import Config

# Settings that only this method has, for those who wrote them before methods could be chosen.
_PAPER = "dimgrow_paper"
_OF_PAPER = ("check_every", "checkpoint_every", "patience_checks", "gate", "growth")


@dataclasses.dataclass(frozen=True, kw_only=True)
class SearchConfig(Section):
    """How the dimensions are searched.

    Args:
        method: a name in keras_dimgrow's METHODS.
        parameter_budget: the most embedding parameters that the plan may have. 0.2 (a decimal number, at most 1.0): this share
            of the parameters of 16 dimensions for every field. 2000000 (a whole number): parameters. "64MB": bytes of the
            float32 tables. null: no budget; dimgrow then finds the smallest plan about as good as 16 dimensions.
        trials: several budgets in the place of parameter_budget, [0.05, 0.1, 0.2] for example: a search each, side by side
            where the runner can, of which the smallest plan is kept whose held-out AUC is at least (1 - settings.tolerance)
            times the best. One search gives plans of smaller budgets too, unraced (`SearchResult.plan_at`): trials are for when
            each budget shall have a search and a race of its own. method dimgrow only; empty for one search.
        settings: of the method's configuration class, as a plain mapping; see `make`.
    """

    section: ClassVar[str] = "search"

    method: str = "dimgrow"
    parameter_budget: float | int | str | None = None
    trials: tuple[float | int | str, ...] = ()
    settings: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """As of every section; says where the settings of a method stand if one stands here."""
        known = [field.name for field in dataclasses.fields(cls)]
        for key in values:
            if key not in known and not did_you_mean(str(key), known):
                paper = "" if key not in _OF_PAPER else f" {key!r} is a setting of search.method={_PAPER}."
                raise UserError(
                    f"unknown key 'search.{key}'. Settings of a method stand below 'settings': search.settings.{key}.{paper} "
                    f"Keys in section 'search': {', '.join(known)}."
                )
        return super().from_dict(values)

    def _validate(self) -> None:
        if self.trials:
            self._require(
                "trials", 2 <= len(set(self.trials)) == len(self.trials) <= 8, "from 2 to 8 different budgets"
            )
            self._require("method", self.method == "dimgrow", "dimgrow where search.trials are given")
            cure = "Give search.trials or search.parameter_budget."
            self._require("parameter_budget", self.parameter_budget is None, "null where search.trials are given", cure)
        for budget in (self.parameter_budget, *self.trials):
            self._require_share(budget)

    @staticmethod
    def _require_share(budget: float | int | str | None) -> None:
        if isinstance(budget, int) and budget == 1:
            raise UserError(
                "search.parameter_budget=1 is one embedding parameter: a whole number counts parameters. Write 1.0 for as "
                "many as 16 dimensions for every field have."
            )

    def make(self) -> "Config":
        """The method's configuration, an instance of `keras_dimgrow.METHODS[method].config`.

        Raises:
            UserError: for an unknown method, a setting or a value that it rejects, or a budget that it cannot take.
        """
        # Here, because the library imports TensorFlow, which reading a configuration should not wait for.
        from keras_dimgrow import METHODS
        from keras_dimgrow.search import choose_method

        try:
            for budget in self.trials or (self.parameter_budget,):
                method, _ = choose_method(self.method, None, budget)
        except ValueError as error:
            raise UserError(f"section 'search': {str(error).removeprefix('search: ')}") from error
        try:
            return method.config.from_dict(self.settings)
        except ValueError as error:
            known = {field.name for field in dataclasses.fields(method.config)}  # type: ignore[arg-type]
            strange = next((key for key in self.settings if key not in known), None)
            others = [
                name
                for name, other in METHODS.items()
                if strange in {field.name for field in dataclasses.fields(other.config)}  # type: ignore[arg-type]
            ]
            hint = f" {strange!r} is a setting of search.method={' or '.join(others)}." if others else ""
            raise UserError(f"search.settings of method {self.method!r}: {error}{hint}") from error
