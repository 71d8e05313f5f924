"""DimGrow as in its paper: learned shuffle gates decide which dimensions grow (arXiv 2505.12683, section 4)."""

import dataclasses

from keras_dimgrow.callbacks import DimensionSearch
from keras_dimgrow.checkpoint import SearchCheckpoint
from keras_dimgrow.config import Config
from keras_dimgrow.layers import DimGrowEmbedding
from keras_dimgrow.methods.problem import SearchProblem, SearchResult
from keras_dimgrow.models import build_model
from keras_dimgrow.optimizers import LazyAdam
from keras_dimgrow.policy import GrowthConfig
from keras_dimgrow.shuffle_gate import GateConfig


@dataclasses.dataclass(frozen=True, kw_only=True)
class DimGrowPaperConfig(Config):
    """How a search by gates trains, looks at its gates and stops.

    Args:
        max_steps: the search ends after this many training steps at the latest.
        check_every: steps between two looks at the gates.
        checkpoint_every: steps between two checkpoints, each with a validation; a multiple of check_every.
        patience_checks: the search ends when no dimension changed for this many checks and the gates are decided.
        learning_rate: of LazyAdam, for embeddings, gates and backbone alike.
        gate, growth: see GateConfig and GrowthConfig; the default penalty is the paper's, blind to vocabulary sizes.

    Example:
        >>> DimGrowPaperConfig(max_steps=2000, gate=GateConfig(penalty=1e-3)).gate.penalty
        0.001
    """

    max_steps: int = 5000
    check_every: int = 50
    checkpoint_every: int = 500
    patience_checks: int = 40
    learning_rate: float = 1e-3
    gate: GateConfig = dataclasses.field(default_factory=lambda: GateConfig(cost_exponent=0.0))
    growth: GrowthConfig = dataclasses.field(default_factory=GrowthConfig)

    def __post_init__(self) -> None:
        for key in ("max_steps", "check_every", "checkpoint_every", "patience_checks"):
            self._require_int(key, 1)
        is_multiple = self.checkpoint_every % self.check_every == 0
        self._require("checkpoint_every", is_multiple, f"a multiple of check_every={self.check_every}")
        self._require_number("learning_rate", 0.0, above=True)


def run(problem: SearchProblem, config: DimGrowPaperConfig) -> SearchResult:
    """Searches by gates; a budget bounds growth, and may be left unused."""
    growth_config = config.growth
    if problem.max_parameters is not None:
        growth_config = dataclasses.replace(growth_config, max_parameters=problem.max_parameters)
    growth_config.require_room_for(problem.tables)
    layer = DimGrowEmbedding(
        problem.fields,
        problem.model_config.adapter_width,
        problem.model_config.adapter,
        config.gate,
        seed=problem.seed,
        name="embedding",
    )
    model = build_model(layer, problem.model_config, problem.seed)
    model.compile(LazyAdam(config.learning_rate), "binary_crossentropy")
    model.optimizer.build(model.trainable_variables)

    growth = DimensionSearch(
        layer, growth_config, config.check_every, config.patience_checks, config.max_steps, problem.on_check
    )
    checkpoint = SearchCheckpoint(growth, problem.validation_data, problem.checkpoint_directory)
    step = checkpoint.restore(model)
    if step < config.max_steps and not growth.has_converged:
        # An "epoch" is the time between two checkpoints, whatever the size of the data.
        checkpoint.train(model, problem.train_data, step, config.checkpoint_every, config.max_steps)
    if not any((gates > 0.5).any() for gates in layer.gates()) and not any(field.min_dim for field in layer.fields):
        raise ValueError(
            f"After {int(model.optimizer.iterations.numpy())} steps no gate is above 0.5: the search removed every field. "
            "Search longer (max_steps), lower gate.penalty, or keep fields with min_dim=1."
        )
    layer.settle()
    return SearchResult(
        layer.plan(),
        growth.trajectory,
        growth.has_converged,
        model,
        peak_table_bytes=max(record["table_bytes"] for record in growth.trajectory) if growth.trajectory else 0,
    )
