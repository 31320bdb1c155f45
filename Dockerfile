# The container images of Dropline: `docker build --target function|worker|migrations|gallery|local .`, with or without
# BuildKit. cloudbuild.yaml builds and pushes the first four.
#
# A tag can move to another image. For reproducible builds pin the base image by digest:
# --build-arg PYTHON_IMAGE=python:3.11.16-slim-trixie@sha256:…
ARG PYTHON_IMAGE=python:3.11.16-slim-trixie
# The Cloud SQL Auth Proxy for the jobs of function and migrations: a static program for the platform of the build. The same
# digest as `proxy_image` in terraform/modules/database. To build without gcr.io, name a copy of this image.
ARG PROXY_IMAGE=gcr.io/cloud-sql-connectors/cloud-sql-proxy:2.25.4@sha256:88501f0a695a586988add1b8a206fdf3f29f9a1a3deeb9b45ef2b1481ea6be83
# The model in the worker image, so that a start needs no download: a checkpoint of the Hugging Face hub at a commit; `demo`,
# the small packaged model; or `none`, with the path of a mounted directory in DROPLINE_ENGINE__CHECKPOINT.
ARG CHECKPOINT=florence-community/Florence-2-base-ft
ARG REVISION=0b03b6f15a4a211370fb204aee4e7dd48887ea37


FROM ${PROXY_IMAGE} AS cloud-sql-proxy


# ---- Build stages, with pip and a build backend. Only /opt/dropline is copied into the final images.
FROM ${PYTHON_IMAGE} AS build
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
WORKDIR /build
COPY constraints.txt ./
RUN python -m venv --without-pip /opt/dropline \
    && pip install --constraint constraints.txt hatchling
# A wheel without code is a list of requirements. The stages with packages depend on this wheel alone, so a change of the code
# does not reinstall the packages (torch is large).
COPY pyproject.toml ./
RUN touch README.md \
    && pip wheel --no-deps --no-build-isolation --wheel-dir requirements .

# Dropline's code alone, copied over the packages, which already include the console commands.
FROM build AS code
COPY . .
RUN pip wheel --no-deps --no-build-isolation --wheel-dir wheels . \
    && pip --python /opt/dropline/bin/python install --no-deps wheels/*.whl

FROM build AS function-packages
RUN pip --python /opt/dropline/bin/python install --constraint constraints.txt "$(echo requirements/*.whl)[function]"

FROM build AS migrations-packages
RUN pip --python /opt/dropline/bin/python install --constraint constraints.txt "$(echo requirements/*.whl)"

# torch installs the CUDA libraries as packages, so a base image without CUDA is enough: an nvidia/cuda image would add a second
# copy of the libraries and another Python. The driver comes from the host. Cloud Run's L4 has driver 535 (CUDA 12.2), so torch
# is the build for CUDA 12.6: PyPI's own build, for CUDA 13, needs 580. The pin `+cu126` lets no other build through. For another
# build set TORCH_CONSTRAINTS to constraints.txt, and PIP_EXTRA_INDEX_URL to its index, or to nothing for PyPI's own.
FROM build AS worker-packages
# `worker,heic` also decodes HEIC.
ARG EXTRAS=worker
ARG PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cu126
ARG TORCH_CONSTRAINTS=constraints-cuda.txt
COPY constraints-cuda.txt ./
# pip only warns about an invalid index URL and would install PyPI's torch.
RUN case "$PIP_EXTRA_INDEX_URL|$TORCH_CONSTRAINTS" in \
    "|constraints.txt" | "https://"*"|"* | "http://"*"|"*) ;; \
    *) echo "PIP_EXTRA_INDEX_URL is '$PIP_EXTRA_INDEX_URL' and TORCH_CONSTRAINTS is '$TORCH_CONSTRAINTS': give the" \
    "address of an index, or constraints.txt and no index (docs/deploy.md, The GPU's driver)" >&2; exit 1 ;; \
    esac
RUN pip --python /opt/dropline/bin/python install --constraint constraints.txt --constraint "$TORCH_CONSTRAINTS" \
    "$(echo requirements/*.whl)[$EXTRAS]"

# A stage without Dropline's code, so that a change of the code does not download the model again. The download runs as root,
# and the hub's client makes some files readable only for root: hence the chmod.
FROM worker-packages AS model
ARG CHECKPOINT
ARG REVISION
ENV HF_HUB_CACHE=/opt/models
RUN mkdir /opt/models \
    && case "$CHECKPOINT" in \
    demo | none) ;; \
    *) /opt/dropline/bin/hf download "$CHECKPOINT" --revision "$REVISION" \
    --include '*.json' --include '*.txt' --include '*.safetensors' ;; \
    esac \
    && chmod -R a+rX /opt/models

FROM build AS gallery-packages
RUN pip --python /opt/dropline/bin/python install --constraint constraints.txt "$(echo requirements/*.whl)[gallery]"

FROM build AS local-packages
RUN pip --python /opt/dropline/bin/python install --constraint constraints.txt \
    "$(echo requirements/*.whl)[function,flower]" \
    'google-cloud-pubsub>=2.44' 'cryptography>=46' 'pyjwt>=2.10'


# ---- Final images. Python writes no bytecode: pip has compiled all modules, and the user has no write access.
# No init process: as process 1, gunicorn and the worker handle SIGTERM and reap all child processes, and the child processes
# start no processes. The jobs are stopped by SIGKILL, and Postgres then rolls back.
FROM ${PYTHON_IMAGE} AS runtime
ENV PATH=/opt/dropline/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
RUN groupadd --gid 10001 dropline \
    && useradd --uid 10001 --gid 10001 --no-log-init --create-home --shell /usr/sbin/nologin dropline \
    # A new volume at this directory gets its owner.
    && install --directory --owner=10001 --group=10001 /var/lib/dropline
WORKDIR /home/dropline
USER 10001:10001

# The function: no model, no torch. The redrive job uses the same image.
FROM runtime AS function
COPY --from=function-packages /opt/dropline /opt/dropline
COPY --from=cloud-sql-proxy /cloud-sql-proxy /opt/dropline/bin/cloud-sql-proxy
COPY --from=code /opt/dropline/lib /opt/dropline/lib
# Gunicorn listens on 0.0.0.0 at this port; Cloud Run also sets PORT.
ENV PORT=8080
EXPOSE 8080
HEALTHCHECK --interval=30s --timeout=5s --start-period=30s CMD ["python", "-c", "import http.client, os, sys; function = http.client.HTTPConnection('127.0.0.1', int(os.environ['PORT']), timeout=4); function.request('GET', '/healthz'); sys.exit(function.getresponse().status != 200)"]
# One process with threads: a request mostly waits, for Postgres and for Redis.
CMD ["gunicorn", "--config", "python:trigger_fn.server", "--worker-class", "gthread", "--workers", "1", "--threads", "80", "--keep-alive", "60", "--no-control-socket", "trigger_fn.wsgi:create()"]

# The worker, with the engine and the model.
FROM runtime AS worker
# Triton calls a C compiler at the first start, for the part that launches the engine's kernels.
# Debian keeps one version of a package at a time, so a pinned version soon cannot be installed.
USER 0:0
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends gcc libc6-dev \
    && rm -rf /var/lib/apt/lists/*
USER 10001:10001
COPY --from=worker-packages /opt/dropline /opt/dropline
COPY --from=model /opt/models /opt/models
COPY --from=code /opt/dropline/lib /opt/dropline/lib
ARG CHECKPOINT
ARG REVISION
# The engine compiles a kernel that is not in this directory: a new named volume here keeps them over the life of a container.
ENV TRITON_CACHE_DIR=/var/lib/dropline/triton
# Cloud Run mounts the GPU driver's libraries in this directory.
ENV LD_LIBRARY_PATH=/usr/local/nvidia/lib64
# In offline mode a checkpoint name refers to the copy in this image; rows record the checkpoint and the commit.
ENV HF_HUB_CACHE=/opt/models HF_HUB_OFFLINE=1 DROPLINE_ENGINE__CHECKPOINT=$CHECKPOINT DROPLINE_ENGINE__REVISION=$REVISION
# Fail the build, not the first start, if the checkpoint is incomplete.
RUN [ "$CHECKPOINT" = none ] \
    || python -c "from dropline.settings import load_settings; from worker.engine.runtime.checkpoint import find_checkpoint; print(find_checkpoint(load_settings().engine))"
# The kernels for the GPU of Cloud Run, an L4, so that the start of an instance need not compile them. For another GPU give its
# compute capability, or nothing. Torch's build for CPUs comes without Triton.
ARG GPU_CAPABILITY=8.9
RUN [ "$CHECKPOINT" = none ] || [ -z "$GPU_CAPABILITY" ] \
    || python -c "import sys; from importlib.util import find_spec; sys.exit(find_spec('triton') is not None)" \
    || python -m worker.engine.runtime.precompile "$GPU_CAPABILITY"
# The start period covers loading the model, up to DROPLINE_ENGINE__START_TIMEOUT_S.
HEALTHCHECK --interval=30s --timeout=15s --start-period=600s CMD ["python", "-m", "worker.health"]
CMD ["python", "-m", "worker"]

# The database schema, roles and logins: a job, run once per release.
FROM runtime AS migrations
COPY --from=migrations-packages /opt/dropline /opt/dropline
COPY --from=cloud-sql-proxy /cloud-sql-proxy /opt/dropline/bin/cloud-sql-proxy
COPY --from=code /opt/dropline/lib /opt/dropline/lib
HEALTHCHECK NONE
CMD ["python", "-m", "migrations.deploy"]

# The gallery: the page and the API. It listens on all addresses of the container, so it does not start without a token or
# an Identity-Aware Proxy (docs/gallery.md).
FROM runtime AS gallery
COPY --from=gallery-packages /opt/dropline /opt/dropline
COPY --from=code /opt/dropline/lib /opt/dropline/lib
ENV DROPLINE_GALLERY__HOST=0.0.0.0 DROPLINE_GALLERY__PORT=8080
EXPOSE 8080
HEALTHCHECK --interval=30s --timeout=5s --start-period=30s CMD ["python", "-c", "import http.client, os, sys; gallery = http.client.HTTPConnection('127.0.0.1', int(os.environ['DROPLINE_GALLERY__PORT']), timeout=4); gallery.request('GET', '/healthz'); sys.exit(gallery.getresponse().status != 200)"]
CMD ["python", "-m", "gallery"]

# Further services of compose.yaml: the Pub/Sub emulator, Flower, the topics, the migrations.
FROM runtime AS local
COPY --from=local-packages /opt/dropline /opt/dropline
COPY --from=code /opt/dropline/lib /opt/dropline/lib
HEALTHCHECK NONE
CMD ["python", "-m", "local_emulators.pubsub", "--host", "0.0.0.0"]
