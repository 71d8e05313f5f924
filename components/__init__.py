"""TFX components: DimSearch finds an embedding plan inside a pipeline."""

from typing import Any

__all__ = ["DimSearch", "PlanSelector", "SearchReport"]


def __getattr__(name: str) -> Any:
    # Lazy: importing TFX takes seconds, and Vertex needs artifact types to be importable from here.
    if name == "SearchReport":
        from components.artifacts import SearchReport

        return SearchReport
    if name == "DimSearch":
        from components.dim_search.component import DimSearch

        return DimSearch
    if name == "PlanSelector":
        from components.plan_selector.component import PlanSelector

        return PlanSelector
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
