#!/usr/bin/env bash
# `make first-caption`: uploads an image to a bucket of Dropline, waits for the caption in the object's metadata, and prints it.
#
#   BUCKET=my-project-dropline-drops FILE=photo.jpg tools/first_caption.sh
set -euo pipefail

: "${BUCKET:?name the bucket, or the project: make first-caption PROJECT=my-project FILE=photo.jpg}"
: "${FILE:?name an image: make first-caption PROJECT=my-project FILE=photo.jpg}"
# The first image waits for a GPU instance and the loading of the model.
TRIES=${TRIES:-120}
PAUSE_S=${PAUSE_S:-10}
object=gs://$BUCKET/$(basename "$FILE")

gcloud storage cp "$FILE" "$object" >&2
for ((try = 1; try <= TRIES; try++)); do
  caption=$(gcloud storage objects describe "$object" '--format=value(custom_fields.caption)')
  if [ -n "$caption" ]; then
    printf '%s\n' "$caption"
    exit
  fi
  sleep "$PAUSE_S"
done
printf '%s\n' "error: $object has no caption after $TRIES looks; docs/deploy.md#no-caption has the causes" >&2
exit 1
