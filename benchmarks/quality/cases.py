"""One search or one training, timed, and taken from the store where it is finished already."""

import dataclasses
import functools
import time
from collections.abc import Callable
from typing import Any

import keras

import keras_dimgrow as kd
from benchmarks.quality.data import Data
from benchmarks.quality.specs import MethodSpec
from benchmarks.quality.store import Store
from keras_dimgrow.methods.fiited import FIITEDConfig
from pipeline.code_version import hash_modules

# What a training depends on: a change of a method does not make trainings of old plans stale.
TRAINING_MODULES = tuple(
    f"keras_dimgrow.{name}"
    for name in (
        *(
            "adapters",
            "chunking",
            "evaluation",
            "fields",
            "layers.chunk_store",
            "layers.chunked_embedding",
            "layers.inputs",
        ),
        *("layers.partly_chunked_embedding", "layers.planned_embedding"),
        *("models", "optimizers", "plan", "search", "steps", "training", "variables"),
    )
)


@dataclasses.dataclass(frozen=True)
class Found:
    """What a search found.

    Attributes:
        dimensions: field -> dimension; None if the method could not keep the budget.
        chunked_plan: the plan as JSON if some of its fields are in chunks, which dimensions do not say; else None.
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
    chunked_plan: dict[str, Any] | None = None


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

    def train(self, plan: kd.EmbeddingPlan, seed: int, model: kd.ModelConfig | None = None) -> Trained:
        """One training of a plan; equal plans are trained once for each seed.

        Args:
            plan: of the data's fields.
            seed: of initial values and of the order of the rows.
            model: another backbone than the laboratory's.
        """
        model = model or self.model
        key = self._key("train", hash_modules(*TRAINING_MODULES), model) | {
            "dimensions": [plan.dimensions[field.name] for field in self.data.fields],
            "seed": seed,
            "training": self.training.to_dict(),
        }
        if plan.chunks is not None:
            key["plan"] = plan.to_dict()
        name = f"train {plan.parameters:,} parameters, {model.backbone}, seed {seed}"
        return Trained(**self._finish(key, name, self._train, plan, seed, model))

    def plan(self, found: Found) -> kd.EmbeddingPlan:
        """The plan of a search that found one."""
        if found.chunked_plan is not None:
            return kd.EmbeddingPlan.from_dict(found.chunked_plan)
        return kd.EmbeddingPlan.from_dimensions(self.data.fields, found.dimensions)  # type: ignore[arg-type]

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
        config = spec.config
        if isinstance(config, FIITEDConfig):  # what it trains is what `train` trains
            config = dataclasses.replace(config, is_trained=False)
        begin = time.perf_counter()
        try:
            result = kd.search(
                self.data.fields,
                self.data.train_batches(self.batch_size, seed),
                self.data.batches("search"),
                method=spec.name,
                parameter_budget=budget,
                config=config,
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
            chunked_plan=None if result.plan.chunks is None else result.plan.to_dict(),
        )

    def _train(self, plan: kd.EmbeddingPlan, seed: int, model: kd.ModelConfig) -> Trained:
        begin = time.perf_counter()
        trained = kd.retrain(
            plan,
            self.data.train_batches(self.batch_size, seed),
            self.data.batches("stop"),
            config=self.training,
            model_config=model,
            seed=seed,
        )
        seconds = time.perf_counter() - begin
        measured = kd.evaluate(trained.model, self.data.batches("test"))
        return Trained(measured.auc, measured.log_loss, trained.num_epochs, seconds)
