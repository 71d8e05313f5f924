"""Starts a compiled pipeline on Vertex AI Pipelines, by google-cloud-aiplatform."""

import datetime
import os
from typing import Any

from google.api_core import exceptions
from google.auth.exceptions import GoogleAuthError
from google.cloud import aiplatform_v1
from google.protobuf import json_format

from pipeline.config import PipelineConfig
from pipeline.errors import UserError
from pipeline.runners import CompiledPipeline

TIMEOUT_S = 60.0


def make_request(config: PipelineConfig, compiled: CompiledPipeline) -> aiplatform_v1.CreatePipelineJobRequest:
    """What Vertex AI is asked for.

    Raises:
        UserError: without project or region.
    """
    cluster = config.cluster
    project = cluster.project or os.environ.get("GOOGLE_CLOUD_PROJECT")
    if not project:
        raise UserError("cluster.project is missing: --set cluster.project=PROJECT, or set GOOGLE_CLOUD_PROJECT.")
    if not cluster.region:
        raise UserError("cluster.region is missing: --set cluster.region=REGION, such as europe-west4.")
    job = {
        "displayName": config.name,
        "pipelineSpec": compiled.job["pipelineSpec"],
        "labels": compiled.job["labels"],
        "runtimeConfig": {
            "gcsOutputDirectory": compiled.job["pipelineSpec"]["defaultPipelineRoot"],
            "parameterValues": compiled.parameters,
        },
        "serviceAccount": cluster.service_account or "",
        "network": cluster.network or "",
    }
    request = {
        "parent": f"projects/{project}/locations/{cluster.region}",
        "pipelineJob": job,
        "pipelineJobId": f"{config.name}-{datetime.datetime.now(datetime.UTC):%Y%m%d%H%M%S}",
    }
    message = aiplatform_v1.CreatePipelineJobRequest()
    json_format.ParseDict(request, aiplatform_v1.CreatePipelineJobRequest.pb(message))
    return message


def describe(request: aiplatform_v1.CreatePipelineJobRequest) -> dict[str, Any]:
    """The request as JSON, whole."""
    return json_format.MessageToDict(aiplatform_v1.CreatePipelineJobRequest.pb(request))


def send(request: aiplatform_v1.CreatePipelineJobRequest) -> str:
    """Starts the job; returns the page that shows it.

    Raises:
        UserError: without credentials, or if Vertex cannot be reached or refuses the job; its own words are kept.
    """
    _, project, _, region = request.parent.split("/")
    try:
        job = _make_client(region).create_pipeline_job(request=request, timeout=TIMEOUT_S)
    except GoogleAuthError as error:
        raise UserError(
            f"no Google Cloud credentials that work: {error} Run `gcloud auth application-default login`, or set "
            "GOOGLE_APPLICATION_CREDENTIALS to the file of a service account's key."
        ) from error
    except (exceptions.Forbidden, exceptions.Unauthorized) as error:
        raise UserError(
            f"Vertex AI refused permission in {request.parent}: {error.message} The account needs the role "
            "roles/aiplatform.user there, and roles/iam.serviceAccountUser on cluster.service_account."
        ) from error
    except (exceptions.ServiceUnavailable, exceptions.GatewayTimeout, exceptions.RetryError) as error:
        raise UserError(
            f"Vertex AI cannot be reached at {_endpoint(region)}: {error} Check the network and "
            f"cluster.region={region!r}."
        ) from error
    except exceptions.GoogleAPICallError as error:
        raise UserError(f"Vertex AI refused the job: {error.message}") from error
    name = job.name.rpartition("/")[2]
    return f"https://console.cloud.google.com/vertex-ai/locations/{region}/pipelines/runs/{name}?project={project}"


def _endpoint(region: str) -> str:
    return f"{region}-aiplatform.googleapis.com"


def _make_client(region: str) -> aiplatform_v1.PipelineServiceClient:
    return aiplatform_v1.PipelineServiceClient(client_options={"api_endpoint": _endpoint(region)})
