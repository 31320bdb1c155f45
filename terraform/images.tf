# A tag can move to another image between two starts of an instance, so only digests are deployed. Each plan reads the digest
# behind a tag; a plan fails here if an image is missing, before anything is created.
data "google_artifact_registry_docker_image" "this" {
  for_each = local.tagged_images

  project       = each.value.project
  location      = each.value.location
  repository_id = each.value.repository
  image_name    = each.value.image
}

locals {
  tagged_images = {
    for part, reference in local.image_references : part => regex("^(?P<location>[a-z0-9-]+)-docker\\.pkg\\.dev/(?P<project>[^/]+)/(?P<repository>[^/]+)/(?P<image>[^/]+)$", reference)
    if !strcontains(reference, "@sha256:")
  }

  image = merge(
    local.image_references,
    { for part, found in data.google_artifact_registry_docker_image.this : part => found.self_link },
  )
}
