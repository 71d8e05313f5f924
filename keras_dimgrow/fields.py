"""What is embedded: a categorical field and its vocabulary."""

import dataclasses


@dataclasses.dataclass(frozen=True, kw_only=True)
class Field:
    """A categorical field, its values given as ids `0 .. vocabulary_size - 1`.

    Args:
        name: unique name of the field; the key of its ids in a model's input.
        vocabulary_size: V, the number of distinct ids (missing and out-of-vocabulary ids included), at least 2.
        min_dim: the search never takes the field below this many dimensions. 0 (the default) lets it be removed.
        max_dim: the search never takes the field above this many dimensions.

    Raises:
        ValueError: if a number is out of its range.
    """

    name: str
    vocabulary_size: int
    min_dim: int = 0
    max_dim: int = 32

    def __post_init__(self) -> None:
        if not self.name:
            raise ValueError("A field needs a name; received an empty one.")
        if self.vocabulary_size < 2:
            raise ValueError(
                f"Field {self.name!r}: vocabulary_size must be >= 2; received {self.vocabulary_size}. "
                "A field with one value carries no information: leave it out of the model."
            )
        if self.min_dim < 0:
            raise ValueError(f"Field {self.name!r}: min_dim must be >= 0; received {self.min_dim}.")
        if self.max_dim < max(1, self.min_dim):
            raise ValueError(
                f"Field {self.name!r}: max_dim must be >= max(1, min_dim); received max_dim={self.max_dim}, "
                f"min_dim={self.min_dim}. Raise max_dim or lower min_dim."
            )
