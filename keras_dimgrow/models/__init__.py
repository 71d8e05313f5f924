"""Backbones over any embedding layer of this library, and `build_model`, which puts the two together."""

from keras_dimgrow.models.build import ModelConfig, RankingModel, build_model
from keras_dimgrow.models.wide_deep import WideDeep

__all__ = ["ModelConfig", "RankingModel", "WideDeep", "build_model"]
