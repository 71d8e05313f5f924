"""Backbones over any embedding layer of this library, `build_embedding`, which makes the layer of a plan, and `build_model`,
which puts the two together."""

from keras_dimgrow.models.autoint import AutoInt
from keras_dimgrow.models.build import BACKBONES, ModelConfig, RankingModel, build_embedding, build_model
from keras_dimgrow.models.dcn import DCN
from keras_dimgrow.models.deepfm import DeepFM
from keras_dimgrow.models.dlrm import DLRM
from keras_dimgrow.models.fm import FM
from keras_dimgrow.models.ipnn import IPNN
from keras_dimgrow.models.nfm import NFM
from keras_dimgrow.models.wide_deep import WideDeep

__all__ = [
    "BACKBONES",
    "DCN",
    "DLRM",
    "FM",
    "IPNN",
    "NFM",
    "AutoInt",
    "DeepFM",
    "ModelConfig",
    "RankingModel",
    "WideDeep",
    "build_embedding",
    "build_model",
]
