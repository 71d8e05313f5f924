"""The alternatives that search_decisions.py measures: subclasses of the layer, other policies, other settings."""

import dataclasses

import numpy as np

import keras_dimgrow as kd
from keras_dimgrow.policy import Action, decide


class KeepsGate(kd.DimGrowEmbedding):
    """A dropped dimension that is used again has the gate that it was dropped with."""

    def _reset_gate(self, position, optimizer):
        if optimizer is not None:
            optimizer.reset_slots(self.theta, 0, position, 0.0)


class WideColumns(kd.DimGrowEmbedding):
    """New columns are drawn from N(0, 0.1^2); the first ones, as ever, from N(0, 0.01^2)."""

    def grow(self, index, optimizer=None):
        self.stddev = 0.1
        super().grow(index, optimizer)


class DropsLast(kd.DimGrowEmbedding):
    """Drops the last dimension in use, as the authors' code does."""

    def drop(self, index):
        masks, theta = self.masks(), self.theta.numpy()
        position = sum(len(mask) for mask in masks[:index]) + int(np.flatnonzero(masks[index])[-1])
        lowest = theta.copy()
        lowest[position] = -1e6
        self.theta.assign(lowest)
        super().drop(index)
        self.theta.assign(theta)


def decide_all_drops(fields, gates, state, config, allocation=None):
    """Drops every dimension below the threshold at once."""
    actions, state = decide(fields, gates, state, config, allocation)
    for action in [action for action in actions if action.kind == "drop"]:
        below = int((gates[action.index] < config.shrink_threshold).sum())
        most = len(gates[action.index]) - fields[action.index].min_dim
        actions[:0] = [Action("drop", action.index)] * (min(below, most) - 1)
    return actions, state


def decide_by_gate(fields, gates, state, config, allocation=None):
    """At a parameter budget, the highest smallest gate grows first, whatever its field's size."""
    wanted, _ = decide(fields, gates, state, dataclasses.replace(config, max_parameters=None))
    dims = np.array([len(values) for values in gates])
    for action in wanted:
        dims[action.index] -= action.kind == "drop"
    sizes = np.array([field.vocabulary_size for field in fields])
    growths = sorted((a for a in wanted if a.kind == "grow"), key=lambda action: -gates[action.index].min())
    fields = list(fields)
    for action in [action for action in wanted if action.kind == "revive"] + growths:
        i = action.index
        if (sizes * dims).sum() + sizes[i] <= config.max_parameters:
            dims[i] += 1
        elif action.kind == "grow":
            fields[i] = dataclasses.replace(fields[i], max_dim=len(gates[i]))
    # With room for the chosen ones only, and the others at their largest, this counts and orders as ever.
    return decide(fields, gates, state, dataclasses.replace(config, max_parameters=int((sizes * dims).sum())))


@dataclasses.dataclass(frozen=True)
class Variant:
    """One way to decide: what differs from the library's, and which row of the table it is compared with.

    Args:
        decision: its letter.
        penalty, steps: factors of the penalty and of the search's steps.
        gate, growth: settings of GateConfig and GrowthConfig.
        has_budget: searches without the useless fields and with less room than the true ranks take: with a low penalty,
            the budget is what limits the search.
        layer: the class of the embedding layer.
        decide: instead of `keras_dimgrow.policy.decide`; None for that.
        against: the variant whose AUC is subtracted.
    """

    decision: str
    penalty: float = 1.0
    steps: int = 1
    gate: dict = dataclasses.field(default_factory=dict)
    has_budget: bool = False
    growth: dict = dataclasses.field(default_factory=dict)
    layer: type = kd.DimGrowEmbedding
    decide: object = None
    against: str = "as shipped"


VARIANTS = {
    "as shipped": Variant("-"),
    "gate kept when used again": Variant("a", layer=KeepsGate),
    "new columns N(0, 0.1)": Variant("b", layer=WideColumns),
    "drop the last dimension": Variant("c", layer=DropsLast),
    "no back-off": Variant("d", growth={"backoff_checks": 0}),
    "no revivals": Variant("e", growth={"max_revivals": 0}),
    "budget, gate per parameter first": Variant(
        "f", penalty=0.2, has_budget=True, against="budget, gate per parameter first"
    ),
    "budget, gate first": Variant(
        "f", penalty=0.2, has_budget=True, decide=decide_by_gate, against="budget, gate per parameter first"
    ),
    "all drops at once": Variant("g", decide=decide_all_drops),
    "three times the steps": Variant("i", steps=3),
    "cost exponent 0 (paper)": Variant("j", gate={"cost_exponent": 0.0}),
    "cost exponent 0, 0.6 alpha": Variant("j", penalty=0.6, gate={"cost_exponent": 0.0}),
    "cost exponent 1": Variant("j", gate={"cost_exponent": 1.0}),
    "Algorithm 1": Variant("k", gate={"shuffle": "permutation"}),
}
