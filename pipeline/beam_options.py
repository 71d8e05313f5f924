"""Beam's flags: refused where Beam would drop them silently, and completed for each place that Beam runs in.

Apache Beam is imported inside the functions: it takes seconds, and a local run with the standing flags needs none of it here.
"""

import argparse
import dataclasses
import difflib
import re
from collections.abc import Iterable, Sequence

from pipeline.errors import UserError


@dataclasses.dataclass(frozen=True)
class _Profile:
    """Where Beam runs: `args` come before the user's own, which so override them; of each of `needs` one flag must be given."""

    args: tuple[str, ...]
    needs: tuple[tuple[str, ...], ...] = ()
    is_portable: bool = False


_IMAGE = ("--sdk_container_image=IMAGE",)
_PROFILES = {
    # One in-memory worker is the fastest local mode on few cores; naming FnApiRunner keeps Beam from looking for Prism.
    "local": _Profile(("--runner=FnApiRunner", "--direct_running_mode=in_memory", "--direct_num_workers=1")),
    "dataflow": _Profile(
        ("--runner=DataflowRunner",),
        (("--project=PROJECT",), ("--region=REGION",), ("--temp_location=gs://BUCKET/tmp",), _IMAGE),
    ),
    "flink": _Profile(("--runner=FlinkRunner",), (("--flink_master=HOST:8081", "--job_endpoint=HOST:8099"),), True),
    "spark": _Profile(
        ("--runner=SparkRunner",), (("--spark_master_url=spark://HOST:7077", "--job_endpoint=HOST:8099"),), True
    ),
}
BEAM_PROFILES = tuple(_PROFILES)

# What Flink and Spark are told to start themselves, inside the process that submits.
_EMBEDDED_MASTER = re.compile(r"\[local\]|local(\[.*\])?")
_THIS_MACHINE = re.compile(r"([a-z]+://)?(localhost|127\.0\.0\.1|\[::1\])(:\d+)?/?")


def check_beam_args(args: Sequence[str]) -> None:
    """Refuses what Beam would drop with no more than a warning in a log: flags that it does not know.

    Args:
        args: flags as `beam_pipeline_args` takes them, such as "--region=us-central1".

    Raises:
        UserError: if a flag is unknown (the nearest known one is named), a value unreadable, or the runner unknown.
    """
    _parse(args)


def make_beam_args(profile: str, args: Sequence[str] = ()) -> list[str]:
    """The `beam_pipeline_args` of a profile.

    Workers of other machines find our packages in the image `--sdk_container_image` (`make image TARGET=worker`).
    Flink and Spark do not look at that flag; for them it is repeated as their environment.

    Args:
        profile: one of BEAM_PROFILES.
        args: more flags; they override the profile's. Default: none.

    Raises:
        UserError: as `check_beam_args`; for an unknown profile; if a flag is missing that the profile needs; or if Beam
            itself objects to a value.
    """
    if profile not in _PROFILES:
        raise UserError(f"Beam profile {profile!r} is unknown. Choose {', '.join(BEAM_PROFILES)}.")
    chosen = _PROFILES[profile]
    if not args and not chosen.needs:
        return list(chosen.args)
    options = _parse(args)
    given = {name for name in map(_flag, args) if getattr(options, name.removeprefix("--"), True)}
    if "--runner" in given:
        raise UserError(
            f"Beam profile {profile!r} chooses the runner; received --runner={options.runner}. "
            f"Remove that flag, or choose another profile: {', '.join(BEAM_PROFILES)}."
        )
    needs = chosen.needs
    environment: list[str] = []
    if chosen.is_portable:
        addresses = [getattr(options, _flag(example)[2:]) for example in needs[0] if _flag(example) in given]
        needs, environment = _place_workers(needs, options, addresses)
    missing = [" or ".join(examples) for examples in needs if not given.intersection(map(_flag, examples))]
    if missing:
        received = " ".join(args) or "no flag"
        raise UserError(f"Beam profile {profile!r} also needs {', '.join(missing)}; received {received}.")
    complete = [*chosen.args, *args, *environment]
    _ask_beam(complete, is_dataflow=profile == "dataflow")
    return complete


def _flag(arg: str) -> str:
    return arg.partition("=")[0]


def _place_workers(
    needs: tuple[tuple[str, ...], ...], options: argparse.Namespace, addresses: Sequence[str]
) -> tuple[tuple[tuple[str, ...], ...], list[str]]:
    """Where Flink's or Spark's workers run our code: what else that needs, and the flags that say it."""
    is_embedded = any(_EMBEDDED_MASTER.fullmatch(address) for address in addresses)
    kind = (options.environment_type or "").upper()
    if kind == "LOOPBACK":
        if addresses and not is_embedded and not any(_THIS_MACHINE.fullmatch(address) for address in addresses):
            raise UserError(
                f"--environment_type=LOOPBACK runs the workers inside this process, which {addresses[0]} cannot reach. "
                "Remove it, and name the workers' image: --sdk_container_image=IMAGE."
            )
        return needs, []
    if is_embedded and not kind and not options.sdk_container_image:
        return needs, []  # Beam itself runs the workers inside this process
    environment = []
    if not kind:
        environment.append("--environment_type=DOCKER")
    if kind in ("", "DOCKER") and not options.environment_config and not options.environment_options:
        environment.append(f"--environment_config={options.sdk_container_image}")
    return (*needs, _IMAGE), environment


def _parse(args: Sequence[str]) -> argparse.Namespace:
    from apache_beam.options.pipeline_options import PipelineOptions, StandardOptions
    from apache_beam.options.pipeline_options_validator import PipelineOptionsValidator

    if isinstance(args, str) or not all(isinstance(arg, str) for arg in args):
        raise UserError(f"Beam flags are a list of strings such as '--region=us-central1'; received {args!r}.")
    parsers: list[argparse.ArgumentParser] = []
    PipelineOptions([]).get_all_options(add_extra_args_fn=parsers.append)
    (parser,) = parsers
    parser.exit_on_error = False
    known = {flag for action in parser._actions for flag in action.option_strings} - {"-h", "--help"}
    for flag in {"-h", "--help"}.intersection(args):  # argparse would print all flags and end the process
        raise UserError(_describe_unknown("flag", flag, known))
    try:
        options, rest = parser.parse_known_args(list(args))
    except (argparse.ArgumentError, ValueError) as error:
        raise UserError(f"Beam flags: {error}; received {' '.join(args)}.") from error
    unknown = [_flag(arg) for arg in rest if arg.startswith("-")]
    if unknown:
        raise UserError("\n".join(_describe_unknown("flag", flag, known) for flag in unknown))
    if rest:
        raise UserError(f"Beam flags start with --; received {rest[0]!r}. Write --FLAG={rest[0]}.")
    runners = [*StandardOptions.KNOWN_RUNNER_NAMES]
    environments = [*PipelineOptionsValidator.REQUIRED_ENVIRONMENT_OPTIONS]
    runner, environment = options.runner or "DirectRunner", (options.environment_type or "DOCKER").upper()
    # Both may also be names with dots or colons of what is registered elsewhere.
    if "." not in runner and not {runner.lower(), f"{runner.lower()}runner"} & {name.lower() for name in runners}:
        raise UserError(_describe_unknown("runner", runner, runners))
    if ":" not in environment and environment not in environments:
        raise UserError(_describe_unknown("environment_type", options.environment_type, environments))
    return options


def _describe_unknown(kind: str, received: str, known: Iterable[str]) -> str:
    from apache_beam import __version__

    # Java's spelling (--maxNumWorkers) and hyphens are the commonest mistakes.
    plain = {re.sub("[^a-z0-9]", "", name.lower()): name for name in known}
    nearest = difflib.get_close_matches(re.sub("[^a-z0-9]", "", received.lower()), plain, n=1)
    cure = f"Did you mean {plain[nearest[0]]}?" if nearest else "None has a name like it: remove it."
    return f"Beam {__version__} has no {kind} {received}. {cure}"


def _ask_beam(args: Sequence[str], is_dataflow: bool) -> None:
    """Beam's own checks, those that need no network."""
    from apache_beam.options import pipeline_options
    from apache_beam.options.pipeline_options_validator import PipelineOptionsValidator

    options = pipeline_options.PipelineOptions(list(args))
    validator = PipelineOptionsValidator(options, None)
    errors = []
    for name in ("DebugOptions", "PortableOptions", "SetupOptions", "WorkerOptions"):
        errors += options.view_as(getattr(pipeline_options, name)).validate(validator)
    if is_dataflow:
        cloud = options.view_as(pipeline_options.GoogleCloudOptions)
        workers = options.view_as(pipeline_options.WorkerOptions)
        errors += validator.validate_num_workers(workers) + validator.validate_worker_region_zone(workers)
        errors += validator.validate_cloud_options(cloud)
        errors += validator.validate_gcs_path(cloud, "temp_location")
        if cloud.staging_location is not None:
            errors += validator.validate_gcs_path(cloud, "staging_location")
    if errors:
        raise UserError(f"Beam flags: {' '.join(errors)} Received {' '.join(args)}.")
