"""Readers of the public formats: raw rows in, one checked TFX input directory out."""

from pipeline.datasets.preparation import PreparedData, prepare

__all__ = ["PreparedData", "prepare"]
