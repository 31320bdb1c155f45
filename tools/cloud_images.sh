#!/usr/bin/env bash
# `make images`: builds and pushes the container images with Cloud Build, in a project that may be empty. Each step is left out
# where its result exists, so a second run continues.
#
#   PROJECT=my-project REGION=europe-west4 VERSION=0.1.0 tools/cloud_images.sh
#
# BUILD_ARGS: more substitutions of cloudbuild.yaml, as `_EXTRAS=worker,_CHECKPOINT=…`.
# STATE_BUCKET: bucket of Terraform's state, which may be another project's; default PROJECT-tfstate, of this project.
# BUILDS_BUCKET: bucket of this project for the sources of the builds; default PROJECT-dropline-builds.
# BUILD_ACCOUNT: service account of the builds, its email or projects/…/serviceAccounts/…; default: Cloud Build's choice.
# TERRAFORM_ROOT: the root to connect to that state; empty: none.
set -euo pipefail

: "${PROJECT:?name the project: make images PROJECT=my-project REGION=europe-west4}"
: "${REGION:?name the region: make images PROJECT=$PROJECT REGION=europe-west4}"
: "${VERSION:?name the version of the images}"
STATE_BUCKET=${STATE_BUCKET:-$PROJECT-tfstate}
BUILDS_BUCKET=${BUILDS_BUCKET:-$PROJECT-dropline-builds}
BUILD_ACCOUNT=${BUILD_ACCOUNT-}
TERRAFORM_ROOT=${TERRAFORM_ROOT-terraform/examples/minimal}
# A service that was just enabled is refused for a minute or two.
TRIES=${TRIES:-20}
PAUSE_S=${PAUSE_S:-10}
# The accounts of the builds are created after their services are enabled, and new rights take two minutes as a rule.
BUILD_TRIES=${BUILD_TRIES:-5}
BUILD_PAUSE_S=${BUILD_PAUSE_S:-30}

NOT_IN_EFFECT='SERVICE_DISABLED|has not been used in project|it is disabled'
# What Cloud Build answers without its account, or with one that may not read the source.
NOT_THERE_YET="$NOT_IN_EFFECT|Unknown service account|[Ss]ervice account .* does not exist|does not have storage\.objects\.get access"
# Cloud Build takes the account's full name alone.
case $BUILD_ACCOUNT in
  "" | */*) ;;
  *) BUILD_ACCOUNT=projects/$PROJECT/serviceAccounts/$BUILD_ACCOUNT ;;
esac

cd "$(dirname "$0")/.."

say() { printf '%s\n' "$*" >&2; }

need() {
  command -v "$1" > /dev/null && return
  say "error: $1 is not on the PATH: $2"
  exit 1
}

# Runs a command again while its service is not in effect yet. After any other failure its message is in $errors.
attempt() {
  local try output
  for ((try = 1; try <= TRIES; try++)); do
    if output=$("$@" 2> "$errors"); then
      cat "$errors" >&2
      printf '%s' "$output"
      return
    fi
    if ! grep -qE "$NOT_IN_EFFECT" "$errors"; then break; fi
    say "the service is enabled, but not in effect yet; next try in $PAUSE_S s"
    sleep "$PAUSE_S"
  done
  return 1
}

# The same; a failure ends the script.
patiently() {
  attempt "$@" && return
  cat "$errors" >&2
  say "error: failed: $*"
  return 1
}

# Makes a bucket $1; variable $2 has its name.
make_bucket() {
  patiently gcloud storage buckets create "gs://$1" "--project=$PROJECT" "--location=$REGION" --uniform-bucket-level-access --public-access-prevention && return
  say "bucket names are unique worldwide; for another name: $2=NAME"
  return 1
}

# Makes a bucket where the project has none with the name. A bucket of another project is refused: whoever guesses the
# name can make it first, and would get what is written to it.
own_bucket() {
  local found
  found=$(patiently gcloud storage buckets list "--project=$PROJECT" "--filter=name=$1" '--format=value(name)')
  if [ -z "$found" ]; then make_bucket "$1" "$2"; fi
}

# The state's earlier versions are the only way back after a damaged one.
keep_versions() { patiently gcloud storage buckets update "gs://$1" --versioning; }

# Takes the bucket $1, which the caller has named, as it is; of whichever project. Fails if there is none.
take_bucket() {
  local versions
  if ! versions=$(attempt gcloud storage buckets describe "gs://$1" "--project=$PROJECT" '--format=value(versioning_enabled)'); then
    if ! grep -q 404 "$errors"; then cat "$errors" >&2; fi
    return 1
  fi
  if [ "$versions" = True ]; then return; fi
  say "warning: gs://$1 keeps no earlier versions of the state: gcloud storage buckets update gs://$1 --versioning"
}

# Builds the images. A build without rights or account is refused before it has an id: then again, since both may just
# have been made. Any other failure, or one of the build itself, is final.
build() {
  local try
  for ((try = 1; try <= BUILD_TRIES; try++)); do
    if { gcloud beta builds submit "--project=$PROJECT" --config=cloudbuild.yaml "--gcs-source-staging-dir=gs://$BUILDS_BUCKET/source" \
      ${BUILD_ACCOUNT:+"--service-account=$BUILD_ACCOUNT"} "--substitutions=_REGION=$REGION,_VERSION=$VERSION${BUILD_ARGS:+,$BUILD_ARGS}" \
      2>&1 >&3 | tee "$errors" >&2; } 3>&1; then return; fi
    if grep -q '^Created \[' "$errors"; then break; fi
    if ! grep -qE "$NOT_THERE_YET" "$errors"; then
      say "no build was started; if the project's services were enabled just now, run the same command again in two minutes"
      break
    fi
    if ((try == BUILD_TRIES)); then break; fi
    say "the build's account or its rights may not be there yet; next try in $BUILD_PAUSE_S s"
    sleep "$BUILD_PAUSE_S"
  done
  say "error: the images were not built; docs/deploy.md#cloud-build has the causes"
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
if [ "$STATE_BUCKET" = "$PROJECT-tfstate" ]; then
  own_bucket "$STATE_BUCKET" STATE_BUCKET
  keep_versions "$STATE_BUCKET"
elif ! take_bucket "$STATE_BUCKET"; then
  make_bucket "$STATE_BUCKET" STATE_BUCKET
  keep_versions "$STATE_BUCKET"
fi

# By default gcloud would make a bucket in the multi-region US, which a policy of locations may refuse.
say "bucket of the sources, gs://$BUILDS_BUCKET"
own_bucket "$BUILDS_BUCKET" BUILDS_BUCKET

say "images $VERSION"
build

if [ -z "$TERRAFORM_ROOT" ]; then exit; fi
terraform "-chdir=$TERRAFORM_ROOT" init -input=false "-backend-config=bucket=$STATE_BUCKET"
say "next: terraform -chdir=$TERRAFORM_ROOT apply -var=project=$PROJECT -var=region=$REGION"
