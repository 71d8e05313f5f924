"""The commands `compile` and `submit`."""

import json
import os
from typing import TYPE_CHECKING

from pipeline.config import PipelineConfig, load_config
from pipeline.console import QuietOutput
from pipeline.errors import UserError

if TYPE_CHECKING:
    from pipeline.runners import CompiledPipeline


def compile_to_file(arguments) -> None:
    """Writes `arguments.output`.

    Raises:
        UserError: as `compile_pipeline` and `CompiledPipeline.write`.
    """
    with QuietOutput() as output:
        config, compiled = _compile(arguments)
        compiled.write(arguments.output)
        output.console.print(f"{arguments.output}: compiled for {arguments.runner}", markup=False)
        if config.cluster.image is None:
            output.console.print(
                "cluster.image is not set: TFX's own image, which lacks this package, stands in the file"
            )


def submit_run(arguments) -> None:
    """Starts a run, or with `arguments.dry_run` prints what would be sent.

    Raises:
        UserError: for a parameter that there is none of; as `compile_pipeline` and `submit`.
    """
    for parameter in arguments.parameters:
        name, separator, value = parameter.partition("=")
        if not separator or name not in ("data", "budget", "root"):
            raise UserError(f"--parameter {parameter!r} must be data=PATH, budget=BUDGET or root=PATH.")
        if name == "budget":
            arguments.overrides.append(f"search.parameter_budget={value}")
        else:
            setattr(arguments, name, value)
    with QuietOutput() as output:
        config, compiled = _compile(arguments)
        from pipeline.submission import describe_submission, submit

        if arguments.dry_run:
            output.console.print_json(json.dumps(describe_submission(config, compiled)))
        else:
            page = submit(config, compiled)
            output.console.print(f"{config.name}: started on {arguments.runner}: {page}", markup=False)


def _compile(arguments) -> "tuple[PipelineConfig, CompiledPipeline]":
    config = load_config(arguments.config, arguments.overrides, arguments.data)
    root = arguments.root or config.cluster.root or os.path.join("runs", config.name)
    # Here, because they import TFX, which a mistake in the configuration should not wait for.
    from pipeline.dag import Locations
    from pipeline.runners import compile_pipeline

    directory, pattern = config.data.path or os.path.join(root, "data"), "*"
    if any(sign in os.path.basename(directory) for sign in ".*?["):  # a file or files, not their directory
        directory, pattern = os.path.split(directory)
    data_format = "csv" if config.data.reader in ("adult", "taxi", "csv") else "tfrecord"
    return config, compile_pipeline(config, Locations(directory, data_format, root, pattern), arguments.runner)
