terraform {
  # terraform init -backend-config=bucket=YOUR-STATE-BUCKET
  backend "gcs" {
    prefix = "dropline"
  }
}

provider "google" {
  project = var.project
  region  = var.region
}

module "dropline" {
  source = "../.."

  project = var.project
  region  = var.region
  name    = "pictures"
  labels  = { team = "catalogue", stage = "production" }

  # One new bucket, and two folders of one that exists already.
  buckets = [
    { name = "${var.project}-uploads" },
    { name = var.existing_bucket, create = false, prefixes = ["photos/", "scans/"] },
  ]
  task_by_prefix = { "scans/" = "<OCR>" }
  max_size_bytes = 30000000

  function_instances = { min = 1, max = 50 }
  worker = {
    instances   = 2
    concurrency = 32
    checkpoint  = "florence-community/Florence-2-large-ft"
    revision    = var.model_revision
  }
  environment = { DROPLINE_ENGINE__MAX_BATCH = "64" }

  database = {
    tier             = "db-custom-4-15360"
    disk_gb          = 100
    highly_available = true
    max_connections  = 500
  }
  database_readers = var.analysts
  redis_memory_gb  = 5

  alert_emails = [var.on_call]
  budget       = var.billing_account == null ? null : { billing_account = var.billing_account, amount = 2000 }
}
