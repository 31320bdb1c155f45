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
  worker       = var.worker
  redis        = var.redis
}
