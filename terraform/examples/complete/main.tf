terraform {
  # terraform init -backend-config=bucket=YOUR-STATE-BUCKET
  backend "gcs" {
    prefix = "dropline"
  }
}

provider "google" {
  project = var.project
  region  = var.region

  # A person's request to the budget API needs a quota project.
  billing_project       = var.project
  user_project_override = true
}

module "dropline" {
  source = "../.."

  project = var.project
  region  = var.region
  name    = "pictures"
  labels  = { team = "catalogue", stage = "production" }

  # A new bucket, and two folders of an existing bucket.
  buckets = [
    { name = "${var.project}-uploads" },
    { name = var.existing_bucket, create = false, prefixes = ["photos/", "scans/"] },
  ]
  task_by_prefix = { "scans/" = "<OCR>" }
  max_size_bytes = 30000000

  function_instances = { min = 1, max = 50 }
  images             = { worker = var.worker_image }
  worker             = { instances = 2, concurrency = 24 }

  # Two GPUs without scale to zero: no image waits for the start of an instance.
  worker_scale_to_zero = false

  environment = { DROPLINE_ENGINE__MAX_BATCH = "64" }

  database = {
    tier             = "db-custom-4-15360"
    disk_gb          = 100
    highly_available = true
    max_connections  = 500
  }
  database_readers = var.analysts
  redis            = { memory_gb = 5 }

  alert_emails = [var.on_call]
  budget       = var.billing_account == null ? null : { billing_account = var.billing_account, amount = 2000 }
}
