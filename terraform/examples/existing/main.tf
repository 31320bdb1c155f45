terraform {
  # terraform init -backend-config=bucket=YOUR-STATE-BUCKET
  backend "gcs" {
    prefix = "dropline"
  }
}

provider "google" {
  project = var.project
}

module "dropline" {
  source = "../.."

  project      = var.project
  region       = var.region
  tasks_region = var.tasks_region

  # The Shared VPC of a host project.
  network = {
    network    = "projects/${var.host_project}/global/networks/${var.network}"
    subnetwork = "projects/${var.host_project}/regions/${var.region}/subnetworks/${var.subnetwork}"
  }

  # Postgres, Redis and pictures of other teams, in a project of theirs.
  database = { existing = { connection_name = var.postgres } }
  redis    = { existing = { url_secret = var.redis_url_secret, certificate_secret = var.redis_certificate_secret } }
  buckets  = [for bucket in var.buckets : { name = bucket, project = var.data_project, create = false }]
}
