"""What the search measured of each embedding dimension, followed through the checks: pure functions of the trajectory."""

import dataclasses
from collections.abc import Sequence

from keras_dimgrow.report.facts import Record


@dataclasses.dataclass(frozen=True)
class Trace:
    """A number of one embedding dimension over the steps.

    Attributes:
        is_kept: gates: False once the dimension was dropped. Gains: whether the plan has so many dimensions.
    """

    steps: list[int]
    values: list[float]
    is_kept: bool


def gate_traces(trajectory: Sequence[Record], field: str) -> list[Trace]:
    """Follows the gate of each embedding dimension of `field`, from the check that took it into use to the one that dropped it.

    A record lists the gates of the dimensions in use only, so the k-th number is not always the same dimension. As in
    DimGrowEmbedding: the dimension with the smallest gate is dropped, and growth re-uses the first dropped place.
    """
    places: list[Trace | None] = []
    ended: list[Trace] = []
    before: list[float] = []
    for record in trajectory:
        gates = [float(gate) for gate in record["gates"].get(field, ())]
        in_use = [place for place, trace in enumerate(places) if trace is not None]
        for k in sorted(range(len(before)), key=lambda k: before[k])[: max(0, len(before) - len(gates))]:
            trace = places[in_use[k]]
            if trace is not None:
                ended.append(dataclasses.replace(trace, is_kept=False))
            places[in_use[k]] = None
        for _ in range(len(gates) - len(before)):
            new = Trace([], [], True)
            if None in places:
                places[places.index(None)] = new
            else:
                places.append(new)
        traces = [trace for trace in places if trace is not None]
        for trace, gate in zip(traces, gates, strict=True):
            trace.steps.append(int(record["step"]))
            trace.values.append(gate)
        before = gates
    return ended + [trace for trace in places if trace is not None]


def gain_traces(trajectory: Sequence[Record], field: str, dimension: int) -> list[Trace]:
    """The held-out gain of the 1st, 2nd, ... strongest component of `field`, in nats; a new trace where one comes back.

    Args:
        dimension: of the field in the plan.
    """
    traces: list[Trace] = []
    current: dict[int, Trace] = {}
    for record in trajectory:
        gains = record["gains"].get(field, ())
        current = {rank: trace for rank, trace in current.items() if rank < len(gains)}
        for rank, gain in enumerate(gains):
            if rank not in current:
                current[rank] = Trace([], [], rank < dimension)
                traces.append(current[rank])
            current[rank].steps.append(int(record["step"]))
            current[rank].values.append(float(gain))
    return traces
