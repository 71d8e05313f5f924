"""Transform: TFX's, whose vocabularies go on from those of an earlier model."""

from pipeline.transform.component import Transform

__all__ = ["Transform"]
