"""AdaEmbed: whole rows are pruned while the model trains (Lai et al., OSDI 2023): FIITED with one chunk a row.

As in FIITED, section 4.1: a row has all of its dimensions or none. Of the original system, which also shards tables over
machines, what is here is the method.
"""

import dataclasses

from keras_dimgrow.chunking import ChunkConfig
from keras_dimgrow.methods.fiited import FIITEDConfig, run

__all__ = ["AdaEmbedConfig", "run"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class AdaEmbedConfig(FIITEDConfig):
    """The settings of FIITED, for rows of one chunk.

    Args:
        dimension, training, is_trained: see `FIITEDConfig`.
        chunking: see `ChunkConfig`; `chunks` must be 1.
        initial, min_rows: see `FIITEDConfig`. The default is the paper's: rows of all tables, of one dimension.

    Example:
        >>> AdaEmbedConfig.from_dict({"chunking": {"period": 50}}).chunking.chunks
        1
    """

    chunking: ChunkConfig = dataclasses.field(default_factory=lambda: ChunkConfig(chunks=1))
    initial: str = "uniform"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.chunking.chunks != 1:
            raise ValueError(
                f"AdaEmbedConfig: rows have one chunk; received chunking.chunks={self.chunking.chunks}. "
                "Use the method fiited for more."
            )
