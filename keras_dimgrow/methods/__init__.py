"""Every method of `search`, one file a method."""

from keras_dimgrow.methods import autodim, dimgrow_paper, uniform
from keras_dimgrow.methods.problem import Method, SearchProblem, SearchResult

METHODS: dict[str, Method] = {
    "autodim": Method(autodim.AutoDimConfig, autodim.run, takes_budget=False),
    "dimgrow_paper": Method(dimgrow_paper.DimGrowPaperConfig, dimgrow_paper.run),
    "uniform": Method(uniform.UniformConfig, uniform.run),
}

__all__ = ["METHODS", "Method", "SearchProblem", "SearchResult"]
