# The images of Dropline: `docker build --target function|worker|migrations|local .`. Nothing in here needs BuildKit.
# cloudbuild.yaml builds and pushes the first three.
#
# A tag can be moved. Whoever wants the same bytes again pins the base by its digest:
# --build-arg PYTHON_IMAGE=python:3.11.16-slim-trixie@sha256:…
ARG PYTHON_IMAGE=python:3.11.16-slim-trixie
# What the worker's image carries, so that a start asks no hub: a checkpoint of the hub at a commit; `demo`, the
# small packaged model; or `none`: then DROPLINE_ENGINE__CHECKPOINT must name a mounted directory.
ARG CHECKPOINT=florence-community/Florence-2-base-ft
ARG REVISION=0b03b6f15a4a211370fb204aee4e7dd48887ea37


# ---- What builds. It has pip and a build backend; of it nothing but /opt/dropline reaches an image.
FROM ${PYTHON_IMAGE} AS build
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
WORKDIR /build
COPY constraints.txt ./
RUN python -m venv --without-pip /opt/dropline \
    && pip install --constraint constraints.txt hatchling
# A wheel without code is a list of requirements. The stages with packages come from it, so a change of the code
# leaves them, torch among them, as they are.
COPY pyproject.toml ./
RUN touch README.md \
    && pip wheel --no-deps --no-build-isolation --wheel-dir requirements .

# Dropline alone, to be laid over the packages, which have its commands already.
FROM build AS code
COPY . .
RUN pip wheel --no-deps --no-build-isolation --wheel-dir wheels . \
    && pip --python /opt/dropline/bin/python install --no-deps wheels/*.whl

FROM build AS function-packages
RUN pip --python /opt/dropline/bin/python install --constraint constraints.txt "$(echo requirements/*.whl)[function]"

FROM build AS migrations-packages
RUN pip --python /opt/dropline/bin/python install --constraint constraints.txt "$(echo requirements/*.whl)"

# The default torch for Linux brings CUDA's libraries as packages, so the base needs none of them: an image of
# nvidia/cuda would bring them a second time, and another Python. The driver comes from the host.
# That torch is built with CUDA 13, for drivers from 580 on. For an older driver, or for no GPU, give as
# PIP_EXTRA_INDEX_URL the index that pytorch.org names for CUDA 12.6 or for CPU, and constraints.txt as
# TORCH_CONSTRAINTS.
FROM build AS worker-packages
# `worker,heic` also decodes HEIC.
ARG EXTRAS=worker
ARG PIP_EXTRA_INDEX_URL=
ARG TORCH_CONSTRAINTS=constraints-cuda.txt
COPY constraints-cuda.txt ./
# pip only warns of an address that is none, and would take the default torch, without pins for what comes with it.
RUN case "$PIP_EXTRA_INDEX_URL|$TORCH_CONSTRAINTS" in \
    "|constraints-cuda.txt" | "https://"*"|"* | "http://"*"|"*) ;; \
    *) echo "PIP_EXTRA_INDEX_URL is '$PIP_EXTRA_INDEX_URL' and TORCH_CONSTRAINTS is '$TORCH_CONSTRAINTS': give the" \
    "address of an index and constraints.txt, or neither of the two (docs/deploy.md, The GPU's driver)" >&2; exit 1 ;; \
    esac
RUN pip --python /opt/dropline/bin/python install --constraint constraints.txt --constraint "$TORCH_CONSTRAINTS" \
    "$(echo requirements/*.whl)[$EXTRAS]"

# Without Dropline's code, so that a change of it does not fetch the model again. The hub's client keeps some files to
# the account that fetches them, and here that is root.
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

FROM build AS local-packages
RUN pip --python /opt/dropline/bin/python install --constraint constraints.txt "$(echo requirements/*.whl)[function]" \
    'google-cloud-pubsub>=2.44' 'cryptography>=46' 'pyjwt>=2.10'


# ---- What runs. Python writes no bytecode: pip has compiled everything, and the user may not write there.
# No init: as process 1, gunicorn and the worker handle SIGTERM and reap every process they start, and what they start
# starts nothing of its own. The jobs are ended by SIGKILL, and Postgres then rolls back.
FROM ${PYTHON_IMAGE} AS runtime
ENV PATH=/opt/dropline/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
RUN groupadd --gid 10001 dropline \
    && useradd --uid 10001 --gid 10001 --no-log-init --create-home --shell /usr/sbin/nologin dropline
WORKDIR /home/dropline
USER 10001:10001

# The function: no model, no torch. `dropline redrive` runs from it too.
FROM runtime AS function
COPY --from=function-packages /opt/dropline /opt/dropline
COPY --from=code /opt/dropline/lib /opt/dropline/lib
# Cloud Run sets it too; gunicorn listens on 0.0.0.0 at this port.
ENV PORT=8080
EXPOSE 8080
HEALTHCHECK --interval=30s --timeout=5s --start-period=30s CMD ["python", "-c", "import http.client, os, sys; function = http.client.HTTPConnection('127.0.0.1', int(os.environ['PORT']), timeout=4); function.request('GET', '/healthz'); sys.exit(function.getresponse().status != 200)"]
# One process with threads: its answer is two short waits, on Postgres and on Redis.
CMD ["gunicorn", "--worker-class", "gthread", "--workers", "1", "--threads", "80", "--keep-alive", "60", "--no-control-socket", "trigger_fn.wsgi:create()"]

# The worker, its engine and its model.
FROM runtime AS worker
COPY --from=worker-packages /opt/dropline /opt/dropline
COPY --from=model /opt/models /opt/models
COPY --from=code /opt/dropline/lib /opt/dropline/lib
ARG CHECKPOINT
ARG REVISION
# Cloud Run mounts the driver's libraries there.
ENV LD_LIBRARY_PATH=/usr/local/nvidia/lib64
# Offline, a hub's name stands for the copy in this image, at its commit, and rows say which one it was.
ENV HF_HUB_CACHE=/opt/models HF_HUB_OFFLINE=1 DROPLINE_ENGINE__CHECKPOINT=$CHECKPOINT DROPLINE_ENGINE__REVISION=$REVISION
# What is missing is missed now, and not at the first start.
RUN [ "$CHECKPOINT" = none ] \
    || python -c "from dropline.settings import load_settings; from worker.engine.runtime.checkpoint import find_checkpoint; print(find_checkpoint(load_settings().engine))"
# A start loads the model, for as long as DROPLINE_ENGINE__START_TIMEOUT_S.
HEALTHCHECK --interval=30s --timeout=15s --start-period=600s CMD ["python", "-m", "worker.health"]
CMD ["python", "-m", "worker"]

# The schema, its roles and their logins: run once per release, as a job.
FROM runtime AS migrations
COPY --from=migrations-packages /opt/dropline /opt/dropline
COPY --from=code /opt/dropline/lib /opt/dropline/lib
HEALTHCHECK NONE
CMD ["python", "-m", "migrations.deploy"]

# What compose.yaml needs beside them: the Pub/Sub emulator, its topics, the migrations.
FROM runtime AS local
COPY --from=local-packages /opt/dropline /opt/dropline
COPY --from=code /opt/dropline/lib /opt/dropline/lib
HEALTHCHECK NONE
CMD ["python", "-m", "local_emulators.pubsub", "--host", "0.0.0.0"]
