"""Beam's flags: what is refused, and what each profile makes of them."""

import logging
import os
import pathlib
import subprocess
import sys

import apache_beam as beam
import pytest
from apache_beam.options.pipeline_options import GoogleCloudOptions, PipelineOptions, PortableOptions, WorkerOptions
from apache_beam.runners.runner import create_runner

from pipeline.beam_options import BEAM_PROFILES, check_beam_args, make_beam_args
from pipeline.errors import UserError

IMAGE = "--sdk_container_image=registry/image:1"
DATAFLOW = ["--project=a-project", "--region=us-central1", "--temp_location=gs://bucket/tmp", IMAGE]
COMPLETE = {
    "local": [],
    "dataflow": DATAFLOW,
    "flink": ["--flink_master=host:8081", IMAGE],
    "spark": ["--spark_master_url=spark://host:7077", IMAGE],
}


@pytest.mark.parametrize(
    ("args", "received", "nearest"),
    [
        (["--direct_num_worker=1"], "--direct_num_worker", "--direct_num_workers"),
        (["--direct-num-workers", "2"], "--direct-num-workers", "--direct_num_workers"),
        (["--region=x", "--maxNumWorkers=3"], "--maxNumWorkers", "--max_num_workers"),
        (["-runner=DirectRunner"], "-runner", "--runner"),
        (["--no_use_public_ip"], "--no_use_public_ip", "--no_use_public_ips"),
    ],
)
def test_a_misspelt_flag_is_refused_with_the_nearest_known_one(args, received, nearest):
    with pytest.raises(UserError, match=rf"has no flag {received}\. Did you mean {nearest}\?"):
        check_beam_args(args)


def test_all_unknown_flags_are_named_at_once():
    with pytest.raises(UserError, match=r"(?s)no flag --regio\. .*--region\?.*no flag --projct\. .*--project\?"):
        check_beam_args(["--regio=x", "--runner=DataflowRunner", "--projct", "p"])


@pytest.mark.parametrize("flag", ["--qqzzxxjj", "--help", "-h", "--"])
def test_a_flag_like_no_other_is_refused_too(flag):
    with pytest.raises(UserError, match=rf"has no flag {flag}\. None has a name like it"):
        check_beam_args([flag])


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["us-central1"], r"start with --; received 'us-central1'"),
        (["--direct_num_workers=two"], r"--direct_num_workers: invalid int value: 'two'"),
        (["--streaming=true"], r"--streaming: ignored explicit argument 'true'"),
        (["--temp_location", "--streaming"], r"--temp_location: expected one argument"),
        (["--gcs_custom_audit_entries={x"], r"received --gcs_custom_audit_entries=\{x"),
        (["--runner=Dataflw"], r"no runner Dataflw\. Did you mean DataflowRunner\?"),
        (["--environment_type=dokcer"], r"no environment_type dokcer\. Did you mean DOCKER\?"),
        ("--streaming", r"a list of strings .* received '--streaming'"),
        ([1], r"a list of strings .* received \[1\]"),
    ],
)
def test_what_beam_could_not_read_is_refused(args, message):
    with pytest.raises(UserError, match=message):
        check_beam_args(args)


@pytest.mark.parametrize(
    "args",
    [
        [],
        ["--runner=direct"],
        ["--runner", "apache_beam.runners.render.RenderRunner"],
        ["--no_use_public_ips", "--experiments=a,b", "--experiments=c"],
        ["--labels=team=ads", "--environment_option=process_command=/run", "--environment_type=process"],
    ],
)
def test_what_beam_knows_is_accepted(args):
    check_beam_args(args)


@pytest.mark.parametrize("profile", BEAM_PROFILES)
def test_beam_drops_nothing_of_a_profiles_flags_and_knows_its_runner(profile, caplog):
    args = make_beam_args(profile, [*COMPLETE[profile], "--experiments=a"])
    with caplog.at_level(logging.WARNING):
        options = PipelineOptions(args).get_all_options()
    assert "Discarding" not in caplog.text
    assert {name.lstrip("-").partition("=")[0] for name in args} <= set(options)
    assert type(create_runner(options["runner"])).__name__ == options["runner"]


def test_a_pipeline_runs_in_this_process_with_the_local_flags(tmp_path):
    path = tmp_path / "total"
    with beam.Pipeline(argv=make_beam_args("local")) as pipeline:
        total = pipeline | beam.Create([1, 2, 3]) | beam.CombineGlobally(sum)
        _ = total | beam.Map(lambda value, name=str(path): pathlib.Path(name).write_text(f"{value} {os.getpid()}"))
    assert path.read_text() == f"6 {os.getpid()}"


def test_the_local_flags_cost_no_import_of_beam():
    script = "import sys, pipeline.beam_options as b; b.make_beam_args('local'); sys.exit('apache_beam' in sys.modules)"
    subprocess.run([sys.executable, "-c", script], check=True)


def test_the_users_flags_override_the_profiles():
    options = PipelineOptions(make_beam_args("local", ["--direct_num_workers=3"])).get_all_options()
    assert options["direct_num_workers"] == 3
    assert options["direct_running_mode"] == "in_memory"


def test_a_profile_keeps_its_runner():
    with pytest.raises(UserError, match=r"'dataflow' chooses the runner; received --runner=DirectRunner"):
        make_beam_args("dataflow", [*DATAFLOW, "--runner=DirectRunner"])


def test_an_unknown_profile_is_refused_with_those_there_are():
    with pytest.raises(UserError, match=r"'dataflo' is unknown\. Choose local, dataflow, flink, spark"):
        make_beam_args("dataflo")


@pytest.mark.parametrize("missing", range(len(DATAFLOW)))
@pytest.mark.parametrize("is_empty", [False, True])
def test_dataflow_names_the_flag_that_is_missing(missing, is_empty):
    name = DATAFLOW[missing].partition("=")[0]
    args = [*DATAFLOW[:missing], *([f"{name}="] if is_empty else []), *DATAFLOW[missing + 1 :]]
    with pytest.raises(UserError, match=rf"'dataflow' also needs {name}=[^,]*; received "):
        make_beam_args("dataflow", args)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--project=12345"], r"Invalid Project ID \(12345\)"),
        (["--temp_location=/tmp/beam"], r"Invalid GCS path \(/tmp/beam\)"),
        (["--staging_location=s3://bucket/x"], r"Invalid GCS path \(s3://bucket/x\)"),
        (["--num_workers=5", "--max_num_workers=2"], r"num_workers \(5\) cannot exceed max_num_workers \(2\)"),
        (["--worker_zone=z", "--worker_region=r"], r"mutually exclusive"),
        (["--job_name=Upper"], r"Invalid job_name \(Upper\)"),
    ],
)
def test_what_beam_would_refuse_at_submission_is_refused_now(flags, message):
    with pytest.raises(UserError, match=message):
        make_beam_args("dataflow", [*DATAFLOW, *flags])


def test_the_workers_of_dataflow_run_our_image():
    options = PipelineOptions(make_beam_args("dataflow", DATAFLOW))
    assert options.view_as(WorkerOptions).sdk_container_image == "registry/image:1"
    assert options.view_as(GoogleCloudOptions).project == "a-project"


@pytest.mark.parametrize("profile", ["flink", "spark"])
@pytest.mark.parametrize("more", [[], ["--environment_type=DOCKER"]])
def test_the_workers_of_flink_and_spark_run_our_image(profile, more):
    options = PipelineOptions(make_beam_args(profile, [*COMPLETE[profile], *more]))
    portable = options.view_as(PortableOptions)
    assert (portable.environment_type, portable.environment_config) == ("DOCKER", "registry/image:1")


@pytest.mark.parametrize(("profile", "other"), [("flink", "--flink_master"), ("spark", "--spark_master_url")])
def test_flink_and_spark_need_a_cluster_or_a_job_server(profile, other):
    with pytest.raises(UserError, match=rf"needs {other}=\S+ or --job_endpoint=\S+; received {IMAGE}"):
        make_beam_args(profile, [IMAGE])
    make_beam_args(profile, [IMAGE, "--job_endpoint=host:8099"])


@pytest.mark.parametrize(
    ("profile", "address"), [("flink", "--flink_master=host:8081"), ("spark", "--spark_master_url=spark://host:7077")]
)
def test_a_cluster_needs_an_image_with_our_packages(profile, address):
    with pytest.raises(UserError, match=r"needs --sdk_container_image=IMAGE; received --"):
        make_beam_args(profile, [address])
    with pytest.raises(UserError, match=r"needs --sdk_container_image=IMAGE; received --"):
        make_beam_args(profile, [address, "--environment_type=EXTERNAL", "--environment_config=localhost:50000"])


@pytest.mark.parametrize(
    ("profile", "args"),
    [
        ("flink", ["--flink_master=[local]"]),
        ("spark", ["--spark_master_url=local[2]"]),
        ("flink", ["--job_endpoint=localhost:8099", "--environment_type=LOOPBACK"]),
        ("spark", ["--spark_master_url=spark://127.0.0.1:7077", "--environment_type=LOOPBACK"]),
    ],
)
def test_a_cluster_on_this_machine_may_use_this_process(profile, args):
    assert make_beam_args(profile, args)[1:] == args


def test_a_cluster_elsewhere_cannot_use_this_process():
    with pytest.raises(UserError, match=r"LOOPBACK runs the workers inside this process, which host:8081 cannot reach"):
        make_beam_args("flink", ["--flink_master=host:8081", "--environment_type=LOOPBACK"])


def test_a_worker_pool_beside_the_cluster_is_left_as_it_is():
    args = [*COMPLETE["flink"], "--environment_type=EXTERNAL", "--environment_config=localhost:50000"]
    assert make_beam_args("flink", args)[1:] == args
    with pytest.raises(UserError, match=r"external_service_address is required"):
        make_beam_args("flink", args[:-1])
