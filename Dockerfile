# The images of Dropline: `docker build --target function|worker|migrations|local .`
FROM python:3.11-slim AS base
ENV PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
RUN useradd --create-home --uid 10001 dropline
WORKDIR /src
COPY . .

# The function: no model, no torch.
FROM base AS function
RUN pip install --constraint constraints.txt '.[function]'
USER dropline
WORKDIR /home/dropline
# One process with threads: its answer is two short waits, on Postgres and on Redis.
CMD ["sh", "-c", "exec gunicorn --worker-class gthread --workers 1 --threads 16 --keep-alive 60 --no-control-socket --bind 0.0.0.0:${PORT:-8080} 'trigger_fn.wsgi:create()'"]

# The worker with its engine. The default torch for Linux brings CUDA; for a smaller image without it, give the index of
# CPU-only builds (docs/install.md) as --build-arg PIP_EXTRA_INDEX_URL=…
FROM base AS worker
ARG PIP_EXTRA_INDEX_URL=
RUN pip install --constraint constraints.txt '.[worker]'
USER dropline
WORKDIR /home/dropline
CMD ["python", "-m", "worker"]

# The schema, its roles and their logins: run once per release, as a job.
FROM base AS migrations
RUN pip install --constraint constraints.txt .
USER dropline
WORKDIR /home/dropline
CMD ["python", "-m", "migrations.deploy"]

# What compose.yaml needs beside them: the Pub/Sub emulator, its topics, the migrations.
FROM base AS local
RUN pip install --constraint constraints.txt '.[function]' 'google-cloud-pubsub>=2.44' 'cryptography>=46' 'pyjwt>=2.10'
USER dropline
WORKDIR /home/dropline
CMD ["python", "-m", "local_emulators.pubsub", "--host", "0.0.0.0"]
