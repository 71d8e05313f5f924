"""Which chunks of which rows have memory: FIITED's configuration and decisions (FIITED, sections 4.1 to 4.3).

The functions are pure: tensors in, decisions out. `ChunkStore` carries the state. K chunks a row, E entries (rows).
"""

import dataclasses
from collections.abc import Mapping, Sequence

import keras
import tensorflow as tf

from keras_dimgrow.budget import Budget, parse_budget, require_budget
from keras_dimgrow.config import Config
from keras_dimgrow.fields import AnyField

UTILITIES = ("gradient", "access")


@keras.saving.register_keras_serializable("keras_dimgrow")
@dataclasses.dataclass(frozen=True, kw_only=True)
class ChunkConfig(Config):
    """How rows are cut into chunks, and how chunks are pruned while the model trains.

    Args:
        chunks: K, chunks of a row, all of the same width. 1 prunes whole rows: AdaEmbed.
        pruning_ratio: the share of all chunks that has no memory. A number is p of one threshold for all chunks (adaptive
            per-chunk ratios, section 4.2.1); a tuple has p_k of each chunk, with a threshold of its own (manual ratios).
            None with a `parameter_budget`.
        parameter_budget: embedding parameters that the pools hold in all, as in `search`, in the place of an adaptive
            `pruning_ratio`.
        decay: gamma of the utilities u(i) = gamma u(i-1) + a(i) g(i).
        utility: "gradient": a(i) accesses times g(i), the norm of the chunk's gradient; "access": a(i) alone, the same for
            all chunks of a row, so that with rising manual ratios they are pruned in the same order in every row.
        feature_share: s in [0, 1]: decisions see (1 - s) u + s mean u, the mean over the chunks at the same place in all
            rows of the table (section 4.2.2). 1 gives all rows of a table the same chunks, as far as the pool reaches.
        period: T, training steps from one pruning to the next.
        sample_size: m, utilities that are drawn at random for the thresholds (of each chunk, with manual ratios). From
            the number of all utilities on, all are taken, and none is drawn.
        entries: entries that (field, id) is hashed to, where there are more rows than that. None: exact ids.

    Raises:
        ValueError: for values out of their range, or other than one of `pruning_ratio` and `parameter_budget`.

    Example:
        >>> ChunkConfig(chunks=2, pruning_ratio=(0.5, 0.9)).chunk_ratios
        (0.5, 0.9)
    """

    chunks: int = 2
    pruning_ratio: float | tuple[float, ...] | None = 0.75
    parameter_budget: Budget | None = None
    decay: float = 0.999
    utility: str = "gradient"
    feature_share: float = 0.0
    period: int = 100
    sample_size: int = 10_000
    entries: int | None = None

    def __post_init__(self) -> None:
        self._require_int("chunks", 1)
        is_one_given = (self.pruning_ratio is None) != (self.parameter_budget is None)
        if not is_one_given:
            raise ValueError(
                "ChunkConfig: one of pruning_ratio and parameter_budget says how much memory there is; received "
                f"pruning_ratio={self.pruning_ratio!r}, parameter_budget={self.parameter_budget!r}. Set the other to None."
            )
        if self.parameter_budget is not None:
            require_budget(self.parameter_budget)
        elif isinstance(self.pruning_ratio, tuple):
            expected = f"{self.chunks} numbers in [0, 1], one for each chunk, not all of them 1"
            are_ratios = all(_is_number(ratio) and 0 <= ratio <= 1 for ratio in self.pruning_ratio)
            is_right = are_ratios and len(self.pruning_ratio) == self.chunks and min(self.pruning_ratio) < 1
            self._require("pruning_ratio", is_right, expected)
        else:
            is_ratio = _is_number(self.pruning_ratio) and 0 <= self.pruning_ratio < 1  # type: ignore[operator]
            self._require("pruning_ratio", is_ratio, "a number in [0, 1), or a tuple of one for each chunk")
        self._require("decay", _is_number(self.decay) and 0 < self.decay < 1, "a number > 0 and < 1")
        self._require("utility", self.utility in UTILITIES, f"one of {', '.join(UTILITIES)}")
        self._require_number("feature_share", 0.0, 1.0)
        self._require_int("period", 1)
        self._require_int("sample_size", 1)
        self._require_int("entries", 1, optional=True)
        if self.entries is not None and self.feature_share:
            raise ValueError(
                "ChunkConfig: with hashed entries, an entry belongs to no table whose mean it could share; received "
                f"entries={self.entries}, feature_share={self.feature_share}. Leave entries at None, or feature_share at 0."
            )

    @property
    def chunk_ratios(self) -> tuple[float, ...] | None:
        """p_k of each chunk where ratios are manual; None where one threshold holds for all."""
        return self.pruning_ratio if isinstance(self.pruning_ratio, tuple) else None

    def get_config(self):
        """Keras serialisation, so that layers can hold a ChunkConfig."""
        return self.to_dict()

    @classmethod
    def from_config(cls, config):
        return cls.from_dict(config)


def _is_number(value) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def choose_ratios(config: ChunkConfig, dimensions: Mapping[AnyField, int]) -> float | tuple[float, ...]:
    """The share of chunks that pruning aims at, or that of each chunk: the config's, or what its budget leaves.

    Args:
        dimensions: first field of each table -> dimension of an unpruned row.
    """
    if config.parameter_budget is None:
        return config.pruning_ratio  # type: ignore[return-value]
    unpruned = sum(table.vocabulary_size * dim for table, dim in dimensions.items())
    return max(0.0, 1 - parse_budget(config.parameter_budget, dimensions) / unpruned)


def count_slots(config: ChunkConfig, num_rows: int, ratios: float | tuple[float, ...]) -> int:
    """Chunks that the pool of tables of one dimension holds: those of all entries that are not pruned.

    Args:
        num_rows: rows of these tables.
        ratios: from `choose_ratios`.
    """
    num_entries = min(num_rows, config.entries or num_rows)
    shares = ratios if isinstance(ratios, tuple) else (ratios,) * config.chunks
    return int(sum((1 - share) * num_entries for share in shares) + 1e-6)


def hash_rows(rows: tf.Tensor, num_entries: int) -> tf.Tensor:
    """The entry, int64 in 0 .. num_entries - 1, of each row number: splitmix64, whose bits are as good as random."""
    bits = tf.cast(rows, tf.uint64) + tf.constant(0x9E3779B97F4A7C15, tf.uint64)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        bits = tf.bitwise.bitwise_xor(bits, tf.bitwise.right_shift(bits, tf.constant(shift, tf.uint64)))
        bits *= tf.constant(factor, tf.uint64)
    return tf.cast(tf.bitwise.right_shift(bits, tf.constant(33, tf.uint64)), tf.int64) % num_entries


def choose_thresholds(
    utilities: tf.Tensor, ratios: float | Sequence[float], sample_size: int, seed: tf.Tensor
) -> tf.Tensor:
    """The highest utility to be pruned, [K] or, with one ratio for all chunks, []; below all utilities at ratio 0.

    Args:
        utilities: [E, K], none negative.
        ratios: the share p of all chunks to be pruned, or p_k of each chunk.
        sample_size: m utilities are drawn, of each chunk with p_k; all are taken if there are no more than m.
        seed: int32 [2].
    """
    columns = [tf.reshape(utilities, [-1])] if isinstance(ratios, float | int) else tf.unstack(utilities, axis=1)
    shares = [ratios] if isinstance(ratios, float | int) else ratios
    num_utilities = tf.size(columns[0])
    num_drawn = tf.minimum(num_utilities, sample_size)
    drawn = tf.cond(
        num_utilities <= sample_size,
        lambda: tf.range(num_utilities),
        lambda: tf.random.stateless_uniform([sample_size], seed, 0, num_utilities, tf.int32),
    )
    thresholds = []
    for column, share in zip(columns, shares, strict=True):
        # Of an exact share the product may lie just above its whole number.
        num_pruned = tf.cast(tf.math.ceil(tf.cast(num_drawn, tf.float64) * share - 1e-6), tf.int32)
        ordered = tf.sort(tf.gather(column, drawn))
        thresholds.append(tf.where(num_pruned > 0, ordered[tf.maximum(num_pruned, 1) - 1], -1.0))
    return thresholds[0] if isinstance(ratios, float | int) else tf.stack(thresholds)


def choose_changes(
    utilities: tf.Tensor, is_live: tf.Tensor, thresholds: tf.Tensor, num_free: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Algorithm 1: the chunks to evict and those to allocate, and how many found no free slot.

    Evicted are live chunks with a utility below the threshold, and allocated pruned ones above it. Where slots run short,
    live chunks at the threshold itself (ids never seen, all at 0) give way to those above it; then the highest utilities
    come first.

    Args:
        utilities: [E, K].
        is_live: bool [E, K].
        thresholds: [K] or [].
        num_free: free slots before the evictions.

    Returns:
        Flat positions (row * K + chunk) of the evicted, int64 [n], and of the allocated, int64 [m], ascending, m <= n +
        num_free; and the number of chunks above the threshold that are left without memory.
    """
    flat = tf.reshape(utilities, [-1])

    def where(condition):
        return tf.where(tf.reshape(condition, [-1]))[:, 0]

    evicted = where(is_live & (utilities < thresholds))
    candidates = where(~is_live & (utilities > thresholds))
    num_candidates = tf.size(candidates)
    shortage = tf.maximum(num_candidates - num_free - tf.size(evicted), 0)
    evicted = tf.concat([evicted, where(is_live & (utilities == thresholds))[:shortage]], axis=0)
    num_allocated = tf.minimum(num_candidates, num_free + tf.size(evicted))

    def choose_best():
        best = tf.math.top_k(tf.gather(flat, candidates), num_allocated).indices
        return tf.sort(tf.gather(candidates, best))

    allocated = tf.cond(num_allocated < num_candidates, choose_best, lambda: candidates)
    return evicted, allocated, num_candidates - num_allocated


def mix_with_means(utilities: tf.Tensor, starts: Sequence[int], share: float) -> tf.Tensor:
    """(1 - s) u + s mean u of [E, K], the mean per chunk over the rows of each table; `starts`: its first row, ascending."""
    sizes = tf.constant([*starts[1:], utilities.shape[0]]) - tf.constant(starts)
    owners = tf.repeat(tf.range(len(starts)), sizes)
    means = tf.math.segment_mean(utilities, owners)
    return (1 - share) * utilities + share * tf.gather(means, owners)
