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

  # No GPU and so no GPU quota. The model takes seconds per image on a CPU.
  worker = { accelerator = "none", cpu = "4", memory = "8Gi", concurrency = 4 }
  redis  = var.redis
}
