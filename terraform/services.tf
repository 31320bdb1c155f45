# Required APIs. `terraform destroy` leaves the APIs enabled: other software in the project may use the same APIs.
resource "google_project_service" "this" {
  for_each = toset(concat(
    [
      "artifactregistry.googleapis.com",
      "cloudresourcemanager.googleapis.com",
      "cloudtasks.googleapis.com",
      "compute.googleapis.com",
      "iam.googleapis.com",
      "logging.googleapis.com",
      "monitoring.googleapis.com",
      "pubsub.googleapis.com",
      "redis.googleapis.com",
      "run.googleapis.com",
      "secretmanager.googleapis.com",
      "servicenetworking.googleapis.com",
      "sqladmin.googleapis.com",
      "storage.googleapis.com",
    ],
    try(length(var.gallery.members), 0) > 0 ? ["iap.googleapis.com"] : [],
    var.budget == null ? [] : ["billingbudgets.googleapis.com"],
  ))

  project            = var.project
  service            = each.value
  disable_on_destroy = false
}

data "google_project" "this" {
  project_id = var.project
}

# Reading this data source also creates the service agent of Cloud Storage.
data "google_storage_project_service_account" "this" {
  project = var.project

  depends_on = [google_project_service.this]
}
