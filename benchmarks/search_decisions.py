"""The decisions that the paper leaves open, each against its alternative, on planted data (docs/decisions/0004).

A variant searches, its plan is retrained with early stopping, and what counts is the test AUC, at how many parameters, and
how near the dimensions are to the planted ranks. Alternatives are made in alternatives.py; the library has no options for
them. All variants of a seed see the same rows and start alike.

`python benchmarks/search_decisions.py --jobs 3`: 3 seeds, about 20 minutes on 2 cores.
"""

import argparse
import contextlib
import dataclasses
import json
import statistics
import subprocess
import sys
import time
from unittest import mock

import numpy as np
import rich.console
import rich.table
import tensorflow as tf
from alternatives import VARIANTS, Variant
from harness import describe_machine, write_json

import keras_dimgrow as kd
from pipeline.datasets.planted import Planted, make_planted

NUM_ROWS = 200_000
SEARCH = {"batch_size": 512, "steps": 3500, "learning_rate": 3e-3, "penalty": 1.5e-3}
RETRAIN = {"batch_size": 1024, "config": kd.TrainingConfig(learning_rate=8e-3, max_epochs=12)}
BUDGET_SHARE = 0.8  # of the parameters of the true ranks


def run_search(planted: Planted, variant: Variant, seed: int):
    """The search model after its last step, and the trajectory; without a stop by convergence."""
    growth, steps = variant.growth, SEARCH["steps"] * variant.steps
    if variant.has_budget:
        true_parameters = sum(field.vocabulary_size * planted.ranks[field.name] for field in planted.fields)
        growth = {"max_parameters": int(BUDGET_SHARE * true_parameters)}
    gate = kd.GateConfig(**({"penalty": SEARCH["penalty"] * variant.penalty, "cost_exponent": 0.5} | variant.gate))
    layer = variant.layer(planted.fields, gate=gate, seed=seed, name="embedding")
    model = kd.build_model(layer, kd.ModelConfig(), seed)
    model.compile(kd.LazyAdam(SEARCH["learning_rate"]), "binary_crossentropy")
    search = kd.DimensionSearch(layer, kd.GrowthConfig(**growth), patience_checks=10**6, max_steps=steps + 1)
    patch = mock.patch("keras_dimgrow.callbacks.decide", variant.decide) if variant.decide else contextlib.nullcontext()
    batches = planted.batches("train", SEARCH["batch_size"], seed).repeat()
    with patch:
        model.fit(batches, steps_per_epoch=steps, callbacks=[search], shuffle=False, verbose=0)
    return model, search.trajectory


def without_useless(planted: Planted) -> Planted:
    """The same rows without the fields of rank 0."""
    kept = [index for index, field in enumerate(planted.fields) if planted.ranks[field.name]]
    fields = tuple(planted.fields[index] for index in kept)
    ranks = {field.name: planted.ranks[field.name] for field in fields}
    return dataclasses.replace(planted, fields=fields, ids=planted.ids[:, kept], ranks=ranks)


def retrained(planted: Planted, dimensions, seed: int) -> dict[str, float]:
    """Test AUC and log loss of the retrained plan, its parameters, and how near it is to the planted ranks."""
    plan = kd.EmbeddingPlan.from_dimensions(planted.fields, dimensions)
    train, validation, test = (
        planted.batches(split, RETRAIN["batch_size"], seed) for split in ("train", "validation", "test")
    )
    model = kd.retrain(plan, train, validation, config=RETRAIN["config"], seed=seed).model
    measured = kd.evaluate(model, test)
    useful = [name for name, rank in planted.ranks.items() if rank]
    return {
        "auc": measured.auc,
        "log_loss": measured.log_loss,
        "parameters": plan.parameters,
        "useless_kept": sum(dimensions[name] > 0 for name, rank in planted.ranks.items() if not rank),
        "useful_lost": sum(dimensions[name] == 0 for name in useful),
        "rank_error": statistics.mean(abs(dimensions[name] - planted.ranks[name]) for name in useful),
    }


def converged_at(trajectory, patience: int):
    """First check behind `patience` checks without an event and with 95% of the gates decided; None if there is none."""
    quiet = 0
    for record in trajectory:
        quiet = 0 if record["events"] else quiet + 1
        gates = np.concatenate([np.array(values) for values in record["gates"].values()])
        if quiet >= patience and ((gates > 0.1) & (gates < 0.5)).mean() <= 0.05:
            return record
    return None


def inference_ways(planted: Planted, model) -> dict[str, dict[str, float]]:
    """Validation of one trained search model, its columns used in three ways."""
    layer, validation = model.embedding, planted.batches("validation", 4096)
    theta, tables = layer.theta.numpy(), [table.numpy() for table in layer.tables]
    gates = 1 / (1 + np.exp(-layer.gate.temperature * theta))
    results = {"g * e": kd.evaluate(model, validation)}
    layer.theta.assign(np.where(gates > 0.5, 100.0, -100.0).astype(np.float32))
    results["e where g > 0.5"] = kd.evaluate(model, validation)
    layer.theta.assign(theta)
    ids = planted.ids[planted.splits["train"]]
    parts = np.split(gates, np.cumsum([values.shape[1] for values in tables])[:-1])
    for index, (table, values, g) in enumerate(zip(layer.tables, tables, parts, strict=True)):
        g = np.maximum(g, 1e-6)
        # The layer multiplies by g: what is added is divided by it.
        table.assign((values + (1 - g) / g * values[ids[:, index]].mean(0)).astype(np.float32))
    results["g * e + (1 - g) * mean e"] = kd.evaluate(model, validation)
    return {name: {"auc": value.auc, "log_loss": value.log_loss} for name, value in results.items()}


def run_seed(seed: int, only: str | None) -> None:
    """Writes a JSON line {variant: measurements} as soon as each is there; `only` some decisions' variants."""
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    planted = make_planted("small", NUM_ROWS, seed=seed)

    def report(name, measurements):
        sys.stdout.write(json.dumps({name: measurements}) + "\n")
        sys.stdout.flush()

    for name, variant in VARIANTS.items():
        if only is not None and variant.decision not in f"-{only}":
            continue
        begin, rows = time.perf_counter(), without_useless(planted) if variant.has_budget else planted
        model, trajectory = run_search(rows, variant, seed)
        seconds = time.perf_counter() - begin
        dimensions = model.embedding.plan().dimensions
        report(name, retrained(rows, dimensions, seed) | {"seconds": seconds, "dimensions": dimensions})
        if name == "as shipped":
            # What the same plan's AUC varies by, when only the training's seed differs.
            report("as shipped, retrained again", retrained(rows, dimensions, seed + 1000))
            for way, measurements in inference_ways(planted, model).items():
                report(f"inference: {way}", measurements)
        if variant.decision == "i":
            for patience in (5, 10, 20, 40):
                if (record := converged_at(trajectory, patience)) is not None:
                    found = {field: sum(g > 0.5 for g in gates) for field, gates in record["gates"].items()}
                    measurements = retrained(rows, found, seed) | {"step": record["step"]}
                    report(f"stop after {patience} quiet checks", measurements)
    if only is not None:
        return
    plans = {"true ranks": dict(planted.ranks)}
    plans |= {f"uniform {k}": {field.name: k for field in planted.fields} for k in (1, 2, 4)}
    for name, dimensions in plans.items():
        report(name, retrained(planted, dimensions, seed))


def mean_and_error(values) -> str:
    """Mean and standard error."""
    error = statistics.stdev(values) / len(values) ** 0.5 if len(values) > 1 else float("nan")
    return f"{statistics.mean(values):+.4f} ({error:.4f})"


def print_table(console, rounds) -> None:
    """One row a variant: means over the seeds, and the difference in AUC to the row that it is an alternative to."""
    table = rich.table.Table("decision", "variant")
    for heading in ("seeds", "AUC", "AUC - shipped (se)", "log loss", "parameters", "useless", "lost", "|d - rank|"):
        table.add_column(heading, justify="right")
    for name in dict.fromkeys(name for results in rounds for name in results):
        rows = [results for results in rounds if name in results]
        variant = VARIANTS.get(name)
        letter = variant.decision if variant else "h" if "inference" in name else "i" if "stop" in name else "-"
        base = variant.against if variant else "inference: g * e" if "inference" in name else "as shipped"
        difference = [results[name]["auc"] - results[base]["auc"] for results in rows]
        keys = ("parameters", ".0f"), ("useless_kept", ".1f"), ("useful_lost", ".1f"), ("rank_error", ".2f")
        table.add_row(
            letter,
            name,
            str(len(rows)),
            f"{statistics.mean(results[name]['auc'] for results in rows):.4f}",
            "" if name == base else mean_and_error(difference),
            f"{statistics.mean(results[name]['log_loss'] for results in rows):.4f}",
            *(
                f"{statistics.mean(results[name][key] for results in rows):{form}}" if key in rows[0][name] else ""
                for key, form in keys
            ),
        )
    console.print(table)


def main() -> int:
    """The command line: one process a seed, one after the other, unless `--jobs` says otherwise."""
    parser = argparse.ArgumentParser(description="Open decisions of the search, planted data")
    parser.add_argument("--seeds", type=int, default=3, help="seeds 0 .. N-1 (default: %(default)s)")
    parser.add_argument("--jobs", type=int, default=1, help="seeds at the same time (default: %(default)s)")
    parser.add_argument("--only", metavar="LETTERS", help="some decisions, such as fj")
    parser.add_argument("--output", default="runs/benchmarks/search_decisions.json", help="JSON (default: %(default)s)")
    parser.add_argument("--seed", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.seed is not None:
        run_seed(arguments.seed, arguments.only)
        return 0

    console = rich.console.Console(highlight=False, soft_wrap=True, width=150)
    machine = describe_machine(seeds=arguments.seeds, jobs=arguments.jobs, rows=NUM_ROWS)
    console.print("Open decisions of the search, planted data")
    console.print(", ".join(f"{key} {value}" for key, value in machine.items()))
    rounds = []
    for first in range(0, arguments.seeds, arguments.jobs):
        seeds = range(first, min(first + arguments.jobs, arguments.seeds))
        command = [sys.executable, __file__, *(["--only", arguments.only] if arguments.only else [])]
        processes = [
            subprocess.Popen([*command, "--seed", str(seed)], stdout=subprocess.PIPE, text=True) for seed in seeds
        ]
        for seed, process in zip(seeds, processes, strict=True):
            rounds.append({})
            for line in process.stdout:
                rounds[-1].update(json.loads(line))
                console.print(f"seed {seed}: {line.strip()}", style="dim")
            if process.wait():
                raise SystemExit(f"seed {seed} failed with exit status {process.returncode}")
    print_table(console, rounds)
    write_json(arguments.output, {"machine": machine, "rounds": rounds})
    return 0


if __name__ == "__main__":
    sys.exit(main())
