"""Whether, and where, TFX's InfraValidator runs the model in TF Serving before it is pushed."""

import dataclasses
import os
from typing import TYPE_CHECKING

from pipeline.errors import UserError

if TYPE_CHECKING:
    from pipeline.serving_config import ServingConfig

SETTINGS = ("auto", "docker", "kubernetes", "off")
DOCKER_TIMEOUT_S = 5
MODEL_NAME = "infra-validation-model"


@dataclasses.dataclass(frozen=True)
class InfraValidation:
    """A decision: `platform` is docker, kubernetes or None for none; `reason` says why, for the person who runs it."""

    platform: str | None
    reason: str


def decide_infra_validation(setting: str) -> InfraValidation:
    """Looks whether this machine can run InfraValidator; TFX knows a local Docker and Kubernetes inside Kubeflow only.

    Args:
        setting: one of SETTINGS.

    Raises:
        UserError: if docker or kubernetes is asked for and is not there.
    """
    if setting == "off":
        return InfraValidation(None, "InfraValidator is off, as serving.infra_validation says")
    problems = {"docker": find_docker_problem, "kubernetes": find_kubernetes_problem}
    if setting != "auto":
        if problem := problems[setting]():
            raise UserError(
                f"serving.infra_validation={setting}, but {problem}. Start it, or set serving.infra_validation to auto or off."
            )
        return InfraValidation(setting, f"InfraValidator runs on {setting}, as serving.infra_validation says")
    found = {}
    for platform, find_problem in problems.items():
        found[platform] = find_problem()
        if not found[platform]:
            return InfraValidation(platform, f"InfraValidator runs on {platform}, which is there")
    return InfraValidation(None, f"InfraValidator is off: {', and '.join(filter(None, found.values()))}")


def find_docker_problem() -> str | None:
    """Why no Docker daemon can be used; None if one answers."""
    # Here, because a run that has it off needs no client; TFX brings it.
    import docker

    try:
        client = docker.from_env(timeout=DOCKER_TIMEOUT_S)
        try:
            client.ping()
        finally:
            client.close()
    except docker.errors.DockerException:
        return f"no Docker daemon answers at {os.environ.get('DOCKER_HOST') or 'the default socket'}"
    return None


def find_kubernetes_problem() -> str | None:
    """Why InfraValidator cannot start pods here; None if it can: it does so inside Kubeflow Pipelines only."""
    from tfx.utils import kube_utils

    # Its variables first: TFX's own question is an error where there is no Kubernetes configuration at all.
    variables = {kube_utils.KFP_POD_NAME, kube_utils.KFP_NAMESPACE}
    is_inside = variables <= set(os.environ) and kube_utils.is_inside_kfp()
    return None if is_inside else "this is no pod of Kubeflow Pipelines"


def make_infra_validator(platform: str, config: "ServingConfig", model, examples, signature: str):
    """The InfraValidator node: loads the model in TF Serving and asks it one request; its blessing gates the Pusher.

    Args:
        platform: docker or kubernetes.
        config: gives the image's tag.
        model, examples: channels of the Trainer's model and of raw examples with a split `test`.
        signature: a signature of serialized tf.Examples.
    """
    from tfx import components
    from tfx.proto import infra_validator_pb2 as proto

    serving = proto.ServingSpec(
        tensorflow_serving=proto.TensorFlowServing(tags=[config.image_tag]), model_name=MODEL_NAME
    )
    if platform == "docker":
        serving.local_docker.SetInParent()
    else:
        serving.kubernetes.SetInParent()
    return components.InfraValidator(
        model=model,
        examples=examples,
        serving_spec=serving,
        # A pull of the image comes first.
        validation_spec=proto.ValidationSpec(max_loading_time_seconds=120, num_tries=2),
        request_spec=proto.RequestSpec(
            tensorflow_serving=proto.TensorFlowServingRequestSpec(signature_names=[signature]),
            split_name="test",
            num_examples=1,
        ),
    )
