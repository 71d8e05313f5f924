"""ImportExampleGen: divides TFRecord shards into splits, shard by shard."""

from pipeline.example_gen.component import ImportExampleGen

__all__ = ["ImportExampleGen"]
