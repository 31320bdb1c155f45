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

# An API that was just enabled is refused for a minute or two by some of Google's servers. Everything else comes after this.
resource "time_sleep" "services" {
  create_duration = "90s"
  triggers        = { of = "services", names = join(" ", sort([for each in google_project_service.this : each.service])) }
}

# Without this resource a service agent is made at its service's first use, and a role for an account that does not exist is
# refused. `terraform destroy` keeps the service agents.
resource "google_project_service_identity" "this" {
  provider = google-beta
  for_each = toset(concat(["pubsub.googleapis.com", "run.googleapis.com"], try(length(var.gallery.members), 0) > 0 ? ["iap.googleapis.com"] : []))

  project = var.project
  service = each.value

  depends_on = [time_sleep.services]
}

data "google_project" "this" {
  project_id = var.project

  depends_on = [time_sleep.services]
}

# A plan that enables another API reads the project only during the apply. The number of a project never changes, so it is
# remembered: what has it in a name would otherwise be planned anew.
resource "terraform_data" "project_number" {
  input            = data.google_project.this.number
  triggers_replace = [var.project]

  lifecycle {
    ignore_changes = [input]
  }
}

# Google keeps some names after a deletion: those of Cloud SQL instances and queues of Cloud Tasks for days, those of custom roles
# for weeks. A deployment that is made again has another suffix.
resource "terraform_data" "suffix" {
  input = substr(sha256(uuid()), 0, 4)

  lifecycle {
    ignore_changes = [input]
  }
}

locals {
  project_number = terraform_data.project_number.output
  suffix         = terraform_data.suffix.output
}

# Reading this data source also creates the service agent of Cloud Storage.
data "google_storage_project_service_account" "this" {
  project = var.project

  depends_on = [time_sleep.services]
}
