"""Starts a compiled pipeline on Kubeflow Pipelines, by kfp.Client."""

import datetime
import json
import os
import tempfile
from collections.abc import Mapping
from typing import Any

import kfp
import kfp_server_api
from kfp.client import KF_PIPELINES_SA_TOKEN_ENV, ServiceAccountTokenVolumeCredentials
from urllib3.exceptions import HTTPError

from pipeline.config import PipelineConfig
from pipeline.errors import UserError
from pipeline.runners import CompiledPipeline


def make_submission(config: PipelineConfig, compiled: CompiledPipeline) -> dict[str, Any]:
    """What kfp.Client is told: the arguments of `create_run_from_pipeline_package`, and the package's content.

    Returns:
        `run`: the body of the request that starts the run, but its experiment_id, which the server gives; `experiment`: the
        experiment's name; `host` and `namespace`, null where kfp.Client finds them.
    """
    spec = compiled.job["pipelineSpec"]
    both = {"pipeline_spec": spec, "platform_spec": compiled.platform_spec} if compiled.platform_spec else spec
    run = {
        "display_name": f"{config.name} {datetime.datetime.now(datetime.UTC):%Y-%m-%d %H:%M:%S}",
        "pipeline_spec": both,
        "runtime_config": {"parameters": compiled.parameters, "pipeline_root": spec["defaultPipelineRoot"]},
    }
    if config.cluster.service_account:
        run["service_account"] = config.cluster.service_account
    host = config.cluster.host or os.environ.get("KF_PIPELINES_ENDPOINT")
    experiment = config.cluster.experiment or config.name
    return {"host": host, "namespace": config.cluster.namespace, "experiment": experiment, "run": run}


def send(submission: Mapping[str, Any], compiled: CompiledPipeline) -> str:
    """Starts the run by kfp.Client; returns the page that shows it.

    The client takes its credentials from kubeconfig, inside a cluster from the pod's service account token, or from
    KF_PIPELINES_SA_TOKEN_PATH.

    Raises:
        UserError: if Kubeflow Pipelines cannot be reached or refuses the run.
    """
    run, host = submission["run"], submission["host"]
    place = host or "the address in kubeconfig (cluster.host is not set)"
    has_token = os.environ.get(KF_PIPELINES_SA_TOKEN_ENV)
    options = {"namespace": submission["namespace"]} if submission["namespace"] else {}
    try:
        client = kfp.Client(host, credentials=ServiceAccountTokenVolumeCredentials() if has_token else None, **options)
        with tempfile.TemporaryDirectory() as directory:
            package = os.path.join(directory, "pipeline.yaml")
            compiled.write(package)
            result = client.create_run_from_pipeline_package(
                package,
                arguments=run["runtime_config"]["parameters"],
                run_name=run["display_name"],
                experiment_name=submission["experiment"],
                namespace=submission["namespace"],
                pipeline_root=run["runtime_config"]["pipeline_root"],
                service_account=run.get("service_account"),
            )
    except kfp_server_api.ApiException as error:
        told = _server_message(error)
        if error.status in (401, 403):
            raise UserError(
                f"Kubeflow Pipelines at {place} refused permission ({error.status}): {told} Name a namespace in which you may "
                "start runs (cluster.namespace), and give a token that the server knows (KF_PIPELINES_SA_TOKEN_PATH)."
            ) from error
        raise UserError(f"Kubeflow Pipelines at {place} refused the run ({error.status}): {told}") from error
    except (HTTPError, TimeoutError) as error:
        raise UserError(
            f"Kubeflow Pipelines cannot be reached at {place}: {error} Set cluster.host, or forward a port: "
            "kubectl port-forward -n kubeflow svc/ml-pipeline-ui 8080:80, then cluster.host=http://localhost:8080."
        ) from error
    return f"{(host or '').rstrip('/')}/#/runs/details/{result.run_id}"


def _server_message(error: kfp_server_api.ApiException) -> str:
    try:
        return json.loads(error.body)["error"]
    except (TypeError, ValueError, KeyError):
        return str(error.body or error.reason)
