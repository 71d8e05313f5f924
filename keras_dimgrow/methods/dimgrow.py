"""draft"""

import dataclasses
import time

import keras
import numpy as np

from keras_dimgrow.config import Config
from keras_dimgrow.layers.growable_embedding import GrowableEmbedding
from keras_dimgrow.ledger import Ledger
from keras_dimgrow.methods.problem import SearchProblem, SearchResult
from keras_dimgrow.models import build_model
from keras_dimgrow.optimizers import LazyAdam
from keras_dimgrow.steps import steps_per_pass
from keras_dimgrow.utility import Probe, projection


@dataclasses.dataclass(frozen=True, kw_only=True)
class DimGrowConfig(Config):
    max_steps: int | None = None
    epochs: float = 3.0
    num_looks: int = 24
    look_rows: int = 30_000
    patience_looks: int = 5
    learning_rate: float = 3e-3
    kappa: float = 1.5
    race: bool = True
    verbose: bool = False


class Growth(keras.callbacks.Callback):
    def __init__(self, layer, probe, budget, limit, config):
        super().__init__()
        self.layer, self.probe, self.budget, self.limit, self.config = layer, probe, budget, limit, config
        self.ledger = Ledger.empty(layer.searched_tables)
        self.best_loss, self.best_look, self.num_looks = np.inf, 0, 0
        self.best = None
        self.look_seconds = 0.0
        self.peak = 0

    def on_epoch_end(self, epoch, logs=None):
        t = time.monotonic()
        layer, optimizer = self.layer, self.model.optimizer
        self.num_looks += 1
        spectra, loss = self.probe.spectra(0)
        dims = np.array(layer.allocated_dims)
        self.peak = max(self.peak, int((self.ledger.sizes * dims).sum()))
        self.ledger.add([s.gains for s in spectra], [s.errors for s in spectra])
        if loss < self.best_loss:
            self.best_loss, self.best_look = loss, self.num_looks
            self.best = (list(self.ledger.gains), list(self.ledger.errors))
        if self.num_looks - self.best_look >= self.config.patience_looks:
            self.model.stop_training = True
        target = self.ledger.next_dims(dims, self.budget, self.limit, self.num_looks < 4) if self.num_looks >= 2 else dims
        for i in np.flatnonzero(target < dims):
            layer.project(int(i), *projection(spectra[i], target[i]), optimizer)
            self.ledger.cut(i, target[i])
        growing = {int(i): int(target[i] - dims[i]) for i in np.flatnonzero(target > dims)}
        if growing:
            layer.grow(growing, optimizer)
            self.ledger.ages[list(growing)] = 0
        self.peak = max(self.peak, int((self.ledger.sizes * target).sum()))
        self.look_seconds += time.monotonic() - t
        if self.config.verbose:
            print(self.num_looks, f"loss {loss:.4f} train {logs['loss']:.4f} dims", *target, "params", int((self.ledger.sizes * target).sum()), f"{time.monotonic() - t:.2f}s", flush=True)


def run(problem: SearchProblem, config: DimGrowConfig) -> SearchResult:
    validation = problem.require_validation_data("dimgrow")
    tables = problem.tables
    sizes = np.array([t.vocabulary_size for t in tables])
    budget = problem.max_parameters or int(16 * sizes.sum())
    limit = int(config.kappa * budget)
    dims, room = np.zeros(len(tables), int), limit
    for i in np.argsort(sizes, kind="stable"):
        least = max(1, tables[i].min_dim)
        if sizes[i] * least <= min(budget, room):
            dims[i] = least
            room -= sizes[i] * least
    layer = GrowableEmbedding(
        problem.fields, dims, problem.model_config.adapter_width, problem.model_config.adapter, seed=problem.seed, name="embedding"
    )
    model = build_model(layer, problem.model_config, problem.seed)
    model.compile(LazyAdam(config.learning_rate), "binary_crossentropy")
    model.optimizer.build(model.trainable_variables)
    per_pass = steps_per_pass(problem.train_data)
    steps = config.max_steps or int(min(max(config.epochs * per_pass, 300), max(per_pass, 4000)))
    every = max(1, steps // config.num_looks)
    growth = Growth(layer, Probe(model, validation, config.look_rows), budget, limit, config)
    model.fit(problem.train_data.repeat(), steps_per_epoch=every, epochs=config.num_looks, callbacks=[growth], shuffle=False, verbose=0)
    growth.ledger.gains, growth.ledger.errors = growth.best
    plan = problem.plan(growth.ledger.plan_dims(budget))
    result = SearchResult(plan, [], True, model, growth.peak * 12, plan_for=lambda b: problem.plan(growth.ledger.plan_dims(b)))
    object.__setattr__(result, "growth", growth)
    return result
