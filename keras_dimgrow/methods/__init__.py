"""Every method of `search`, one file a method."""

from keras_dimgrow.methods import (
    adaembed,
    autodim,
    dimgrow,
    dimgrow_paper,
    dimreg,
    fiited,
    log_vocabulary,
    mixed_dimension,
    optembed,
    previous,
    random_search,
    sseds,
    supernet_gates,
    uniform,
)
from keras_dimgrow.methods.problem import Method, SearchProblem, SearchResult

METHODS: dict[str, Method] = {
    "adaembed": Method(adaembed.AdaEmbedConfig, adaembed.run),
    "autodim": Method(autodim.AutoDimConfig, autodim.run, takes_budget=False),
    "dimgrow": Method(dimgrow.DimGrowConfig, dimgrow.run, takes_start=True, takes_strategy=True),
    "dimgrow_paper": Method(dimgrow_paper.DimGrowPaperConfig, dimgrow_paper.run, takes_strategy=True),
    "dimreg": Method(dimreg.DimRegConfig, dimreg.run),
    "fiited": Method(fiited.FIITEDConfig, fiited.run),
    "log_vocabulary": Method(log_vocabulary.LogVocabularyConfig, log_vocabulary.run),
    "mixed_dimension": Method(mixed_dimension.MixedDimensionConfig, mixed_dimension.run),
    "optembed": Method(optembed.OptEmbedConfig, optembed.run, takes_budget=False),
    "previous": Method(previous.PreviousConfig, previous.run, takes_start=True),
    "random": Method(random_search.RandomConfig, random_search.run),
    "sseds": Method(sseds.SSEDSConfig, sseds.run),
    "supernet_gates": Method(supernet_gates.SupernetGatesConfig, supernet_gates.run),
    "uniform": Method(uniform.UniformConfig, uniform.run),
}

__all__ = ["METHODS", "Method", "SearchProblem", "SearchResult"]
