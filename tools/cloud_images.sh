#!/usr/bin/env bash
# `make images`: builds and pushes the container images with Cloud Build, in a project that may be empty. Each step is left out
# where its result exists, so a second run continues.
#
#   PROJECT=my-project REGION=europe-west4 VERSION=0.1.0 tools/cloud_images.sh
#
# BUILD_ARGS: more substitutions of cloudbuild.yaml, as `_EXTRAS=worker,_CHECKPOINT=…`.
# STATE_BUCKET: bucket of Terraform's state; default PROJECT-tfstate.
# TERRAFORM_ROOT: the root to connect to that state; empty: none.
set -euo pipefail

: "${PROJECT:?name the project: make images PROJECT=my-project REGION=europe-west4}"
: "${REGION:?name the region: make images PROJECT=$PROJECT REGION=europe-west4}"
: "${VERSION:?name the version of the images}"
STATE_BUCKET=${STATE_BUCKET:-$PROJECT-tfstate}
TERRAFORM_ROOT=${TERRAFORM_ROOT-terraform/examples/minimal}
# A service that was just enabled is refused for a minute or two.
TRIES=${TRIES:-20}
PAUSE_S=${PAUSE_S:-10}

cd "$(dirname "$0")/.."

say() { printf '%s\n' "$*" >&2; }

need() {
  command -v "$1" > /dev/null && return
  say "error: $1 is not on the PATH: $2"
  exit 1
}

# Runs a command again while its service is not in effect yet; any other failure ends the script.
patiently() {
  local try output
  for ((try = 1; try <= TRIES; try++)); do
    if output=$("$@" 2> "$errors"); then
      cat "$errors" >&2
      printf '%s' "$output"
      return
    fi
    if ! grep -qE 'SERVICE_DISABLED|has not been used in project|it is disabled' "$errors"; then break; fi
    say "the service is enabled, but not in effect yet; next try in $PAUSE_S s"
    sleep "$PAUSE_S"
  done
  cat "$errors" >&2
  say "error: failed: $*"
  return 1
}

errors=$(mktemp)
trap 'rm -f "$errors"' EXIT
need gcloud "install the Google Cloud SDK"
if [ -n "$TERRAFORM_ROOT" ]; then need terraform "install Terraform 1.9 or newer, or set TERRAFORM_ROOT= to build the images alone"; fi

say "services of $PROJECT"
gcloud services enable \
  cloudresourcemanager.googleapis.com serviceusage.googleapis.com compute.googleapis.com artifactregistry.googleapis.com \
  cloudbuild.googleapis.com storage.googleapis.com "--project=$PROJECT"

say "registry $REGION-docker.pkg.dev/$PROJECT/dropline"
found=$(patiently gcloud artifacts repositories list "--project=$PROJECT" "--location=$REGION" '--filter=name~(^|/)dropline$' '--format=value(name)')
if [ -z "$found" ]; then
  patiently gcloud artifacts repositories create dropline "--project=$PROJECT" "--location=$REGION" --repository-format=docker
fi

say "bucket of Terraform's state, gs://$STATE_BUCKET"
found=$(patiently gcloud storage buckets list "--project=$PROJECT" "--filter=name=$STATE_BUCKET" '--format=value(name)')
if [ -z "$found" ]; then
  patiently gcloud storage buckets create "gs://$STATE_BUCKET" "--project=$PROJECT" "--location=$REGION" --uniform-bucket-level-access --public-access-prevention || {
    say "bucket names are unique worldwide; for another name: STATE_BUCKET=NAME"
    exit 1
  }
fi
# The state's earlier versions are the only way back after a damaged one.
patiently gcloud storage buckets update "gs://$STATE_BUCKET" --versioning

say "images $VERSION"
gcloud beta builds submit "--project=$PROJECT" --config=cloudbuild.yaml "--substitutions=_REGION=$REGION,_VERSION=$VERSION${BUILD_ARGS:+,$BUILD_ARGS}" || {
  say "error: the images were not built; docs/deploy.md#cloud-build has the causes"
  exit 1
}

if [ -z "$TERRAFORM_ROOT" ]; then exit; fi
terraform "-chdir=$TERRAFORM_ROOT" init -input=false "-backend-config=bucket=$STATE_BUCKET"
say "next: terraform -chdir=$TERRAFORM_ROOT apply -var=project=$PROJECT -var=region=$REGION"
