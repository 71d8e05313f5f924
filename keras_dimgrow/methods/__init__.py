"""Every method of `search`, one file a method."""

from keras_dimgrow.methods import dimgrow_paper, dimreg, sseds, supernet_gates, uniform
from keras_dimgrow.methods.problem import Method, SearchProblem, SearchResult

METHODS: dict[str, Method] = {
    "dimgrow_paper": Method(dimgrow_paper.DimGrowPaperConfig, dimgrow_paper.run),
    "dimreg": Method(dimreg.DimRegConfig, dimreg.run),
    "sseds": Method(sseds.SSEDSConfig, sseds.run),
    "supernet_gates": Method(supernet_gates.SupernetGatesConfig, supernet_gates.run),
    "uniform": Method(uniform.UniformConfig, uniform.run),
}

__all__ = ["METHODS", "Method", "SearchProblem", "SearchResult"]
