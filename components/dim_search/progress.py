"""What a running search says: a line of the log at each check, and the same as numbers for a terminal."""

import logging
import time
from collections.abc import Callable
from typing import Any

from keras_dimgrow import DimGrowConfig, DimGrowPaperConfig
from keras_dimgrow.config import Config

# The executor's: what follows a run listens to it.
logger = logging.getLogger("components.dim_search.executor")


def progress_logger(
    config: Config, batch_size: int, max_parameters: int | None = None
) -> Callable[[dict[str, Any]], None]:
    """A function that logs each record of a trajectory; the log record's attribute `search_progress` holds the numbers.

    How far the search is can be said where the settings say it: dimgrow_paper counts steps, dimgrow looks, which differ in
    what they cost as the model grows; a race of plans may follow. Only steps of equal cost give an estimate of the time left.

    Args:
        config: of the method.
        batch_size: rows of a training step.
        max_parameters: the budget, None for none.
    """
    max_steps = max_looks = None
    if isinstance(config, DimGrowPaperConfig):
        max_steps = config.max_steps
        max_parameters = max_parameters or config.growth.max_parameters
    elif isinstance(config, DimGrowConfig):
        max_looks = config.num_looks
    checks: list[tuple[float, int]] = []

    def log(record: dict[str, Any]) -> None:
        checks.append((time.monotonic(), record["step"]))
        seconds, steps = checks[-1][0] - checks[0][0], checks[-1][1] - checks[0][1]
        steps_per_s = steps / seconds if steps else 0.0
        progress = {
            "step": record["step"],
            "max_steps": max_steps,
            "look": _count_looks([step for _, step in checks[-2:]]) if max_looks else None,
            "max_looks": max_looks,
            "rows_per_s": round(steps_per_s * batch_size),
            "loss": record.get("loss"),
            "validation_loss": record.get("validation_loss"),
            "total_dims": record.get("total_dimensions", sum(record["dimensions"].values())),
            "parameters": record["parameters"],
            "max_parameters": max_parameters,
            "eta_s": round((max_steps - record["step"]) / steps_per_s) if max_steps and steps else None,
        }
        losses = [f"{key} {progress[key]:.4f}" for key in ("loss", "validation_loss") if progress[key] is not None]
        logger.info(
            "search step %d%s: %s, %d dimensions in %d fields, %d parameters, %d rows/s",
            *(record["step"], f"/{max_steps}" if max_steps else "", ", ".join(losses) or "no loss"),
            *(progress["total_dims"], len(record["dimensions"]), record["parameters"], progress["rows_per_s"]),
            extra={"search_progress": progress},
        )

    return log


def _count_looks(last_steps: list[int]) -> int | None:
    """Number of the look at the last of these steps; None at the first one, which may be that of a resumed search."""
    if len(last_steps) < 2 or last_steps[0] == last_steps[1]:
        return None
    return round(last_steps[1] / (last_steps[1] - last_steps[0]))
