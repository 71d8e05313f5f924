"""One search or one training, timed, and taken from the store where it is finished already."""

import dataclasses
import functools
import time
from collections.abc import Callable, Mapping
from typing import Any

import keras

import keras_dimgrow as kd
from benchmarks.quality.data import Data
from benchmarks.quality.specs import MethodSpec
from benchmarks.quality.store import Store
from pipeline.code_version import hash_modules

# What a training depends on: a change of a method does not make trainings of old plans stale.
TRAINING_MODULES = tuple(
    f"keras_dimgrow.{name}"
    for name in (
        *("adapters", "evaluation", "fields", "layers.inputs", "layers.planned_embedding"),
        *("models", "optimizers", "plan", "search", "steps", "variables"),
    )
)


@dataclasses.dataclass(frozen=True)
class Found:
    """What a search found.

    Attributes:
        dimensions: field -> dimension; None if the method could not keep the budget.
        seconds: of the search, the race included.
        race_seconds: of the race that guards the plan, 0 if there was none.
        peak_table_bytes: most bytes in tables and their slots while searching; 0 for rules, which train nothing.
        note: what the method said about the plan, or why there is none.
    """

    dimensions: dict[str, int] | None
    seconds: float = 0.0
    race_seconds: float = 0.0
    peak_table_bytes: int = 0
    note: str | None = None


@dataclasses.dataclass(frozen=True)
class Trained:
    """A training to convergence: AUC and log loss on the test rows, epochs, and seconds without the evaluation."""

    auc: float
    log_loss: float
    num_epochs: float
    seconds: float


@dataclasses.dataclass(frozen=True)
class Laboratory:
    """Where cases run: everything that they have in common.

    Attributes:
        data: the rows.
        store: the finished cases.
        batch_size: of searches and trainings alike.
        training: how plans are trained.
        model: the backbone that searches and trainings use.
        report: called with a line about each case that was run, not for those that were in the store.
    """

    data: Data
    store: Store
    batch_size: int
    training: kd.TrainingConfig
    model: kd.ModelConfig
    report: Callable[[str], None]

    def search(self, spec: MethodSpec, budget: float | None, seed: int) -> Found:
        """One search; a ValueError, as of a rule whose smallest plan is too large, is a result as well."""
        key = self._key("search", hash_modules("keras_dimgrow")) | {
            "method": spec.name,
            "settings": spec.config.to_dict(),
            "budget": budget,
            "seed": seed,
        }
        share = "" if budget is None else f" at {budget:g}"
        return Found(**self._finish(key, f"search {spec.label}{share}, seed {seed}", self._search, spec, budget, seed))

    def train(self, dimensions: Mapping[str, int], seed: int, model: kd.ModelConfig | None = None) -> Trained:
        """One training of a plan; plans with the same dimensions are trained once for each seed.

        Args:
            dimensions: field -> dimension.
            seed: of initial values and of the order of the rows.
            model: another backbone than the laboratory's.
        """
        model = model or self.model
        key = self._key("train", hash_modules(*TRAINING_MODULES), model) | {
            "dimensions": [dimensions[field.name] for field in self.data.fields],
            "seed": seed,
            "training": self.training.to_dict(),
        }
        name = f"train {self.plan(dimensions).parameters:,} parameters, {model.backbone}, seed {seed}"
        return Trained(**self._finish(key, name, self._train, dimensions, seed, model))

    def plan(self, dimensions: Mapping[str, int]) -> kd.EmbeddingPlan:
        """The plan with these dimensions."""
        return kd.EmbeddingPlan.from_dimensions(self.data.fields, dimensions)

    @functools.cached_property
    def _is_warm(self) -> bool:
        """Trains a few batches, or the first case that is run would be charged for the start of TensorFlow."""
        batches = self.data.train_batches(self.batch_size, seed=0).take(3)
        kd.retrain(
            kd.EmbeddingPlan.uniform(self.data.fields, 1),
            batches,
            batches,
            config=dataclasses.replace(self.training, max_epochs=1),
            model_config=self.model,
            seed=0,
        )
        return True

    def _key(self, kind: str, code: str, model: kd.ModelConfig | None = None) -> dict[str, Any]:
        return {
            "kind": kind,
            "data": self.data.fingerprint,
            "model": (model or self.model).to_dict(),
            "batch_size": self.batch_size,
            "code": code,
        }

    def _finish(self, key: dict[str, Any], name: str, run: Callable, *arguments) -> dict[str, Any]:
        result = self.store.load(key)
        if result is None and self._is_warm:
            result = dataclasses.asdict(run(*arguments))
            self.store.save(key, result)
            measured = result.get("note") or (f"AUC {result['auc']:.4f}" if "auc" in result else "")
            self.report(f"{name}: {result['seconds']:.1f} s{'; ' if measured else ''}{measured}")
            keras.utils.clear_session()  # collects garbage as well: models refer to themselves, and tables are large
        return result

    def _search(self, spec: MethodSpec, budget: float | None, seed: int) -> Found:
        begin = time.perf_counter()
        try:
            result = kd.search(
                self.data.fields,
                self.data.train_batches(self.batch_size, seed),
                self.data.batches("search"),
                method=spec.name,
                parameter_budget=budget,
                config=spec.config,
                model_config=self.model,
                seed=seed,
            )
        except ValueError as error:
            return Found(None, time.perf_counter() - begin, note=f"does not fit: {error}")
        return Found(
            dimensions=result.plan.dimensions,
            seconds=time.perf_counter() - begin,
            race_seconds=result.race_seconds,
            peak_table_bytes=int(result.peak_table_bytes),
            note=result.note,
        )

    def _train(self, dimensions: Mapping[str, int], seed: int, model: kd.ModelConfig) -> Trained:
        begin = time.perf_counter()
        trained = kd.retrain(
            self.plan(dimensions),
            self.data.train_batches(self.batch_size, seed),
            self.data.batches("stop"),
            config=self.training,
            model_config=model,
            seed=seed,
        )
        seconds = time.perf_counter() - begin
        measured = kd.evaluate(trained.model, self.data.batches("test"))
        return Trained(measured.auc, measured.log_loss, trained.num_epochs, seconds)
