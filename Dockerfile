# What runs the pipeline's nodes on Vertex AI and Kubeflow, and Beam's workers on Dataflow, Flink and Spark:
#   make image IMAGE=name:tag                 nodes, TensorFlow on the CPU
#   make image IMAGE=name:tag VARIANT=gpu     nodes with the CUDA libraries; the driver is the machine's
#   make image IMAGE=name:tag TARGET=worker   Beam's workers: --sdk_container_image=name:tag
ARG VARIANT=cpu

# Debian 13: tfx 1.21 needs glibc >= 2.39. Not slim: pyfarmhash, one of tfx's dependencies, is compiled here.
FROM python:3.11-trixie AS environment-cpu
ENV PATH=/opt/venv/bin:$PATH PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /build
RUN python -m venv /opt/venv
COPY requirements/pipeline.txt requirements/
RUN pip install --no-cache-dir --require-hashes -r requirements/pipeline.txt

FROM environment-cpu AS environment-gpu
COPY requirements/gpu.txt requirements/
RUN pip install --no-cache-dir --require-hashes -r requirements/gpu.txt

# hadolint ignore=DL3006
FROM environment-${VARIANT} AS build
WORKDIR /build
COPY pyproject.toml setup.py README.md LICENSE ./
COPY keras_dimgrow keras_dimgrow
COPY components components
COPY pipeline pipeline
COPY serving serving
RUN pip install --no-cache-dir --no-deps --no-build-isolation . && pip check

FROM python:3.11-slim-trixie AS base
# TF_USE_LEGACY_KERAS: TensorFlow Transform's Keras 2 beside Keras 3; must be set when a process starts.
ENV PATH=/opt/venv/bin:$PATH PYTHONUNBUFFERED=1 TF_USE_LEGACY_KERAS=1
RUN useradd --uid 1000 --user-group --create-home dimgrow
COPY --from=build /opt/venv /opt/venv
WORKDIR /home/dimgrow
# No name: Kubernetes can only prove of a number that it is not root.
USER 1000:1000

FROM apache/beam_python3.11_sdk:2.77.0 AS beam

FROM base AS worker
# Otherwise boot would start from an environment of its own, without what is installed here.
ENV RUN_PYTHON_SDK_IN_DEFAULT_ENVIRONMENT=1
COPY --from=beam /opt/apache/beam/boot /opt/apache/beam/boot
ENTRYPOINT ["/opt/apache/beam/boot"]

# The last, so what `docker build .` makes.
FROM base AS nodes
# As in compiled pipelines, which give each node's command in full.
ENTRYPOINT ["python", "-m", "tfx.orchestration.kubeflow.v2.container.kubeflow_v2_run_executor"]
