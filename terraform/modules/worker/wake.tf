# The queue of Cloud Tasks whose tasks call the function: at the time of a row in a long back-off, and some minutes after the worker
# pool was woken, to check that a worker is ready.
#
# The queue need not be in the region of the function and the worker pool, and cannot be where Cloud Tasks does not exist. Its tasks
# have the function's address and the name of an account; they have no data of an image.
locals {
  # Regions of Cloud Run that Google's list of the locations of Cloud Tasks lacks, each with a near region of that list: one of the
  # European Union for a region of the Union. tests/unit/test_cloud_needs.py compares the table with that of `dropline cloud check`.
  near_tasks_region = {
    africa-south1           = "europe-west1"
    asia-south2             = "asia-south1"
    australia-southeast2    = "australia-southeast1"
    europe-north1           = "europe-central2"
    europe-north2           = "europe-central2"
    europe-southwest1       = "europe-west1"
    europe-west10           = "europe-west3"
    europe-west12           = "europe-west3"
    europe-west4            = "europe-west1"
    europe-west8            = "europe-west3"
    europe-west9            = "europe-west1"
    me-central1             = "asia-south1"
    me-central2             = "asia-south1"
    me-west1                = "europe-central2"
    northamerica-northeast2 = "northamerica-northeast1"
    northamerica-south1     = "us-central1"
    southamerica-west1      = "southamerica-east1"
    us-east5                = "us-east4"
    us-south1               = "us-central1"
  }
  tasks_region = coalesce(var.tasks_region, lookup(local.near_tasks_region, var.region, var.region))
  queue_path   = "projects/${var.project}/locations/${local.tasks_region}/queues/${try(google_cloud_tasks_queue.wake[0].name, "")}"
}

resource "google_cloud_tasks_queue" "wake" {
  count = length(var.scalers) > 0 ? 1 : 0

  project  = var.project
  name     = join("-", compact([var.name, "wake", var.suffix]))
  location = local.tasks_region

  # A task is called until the function takes it, as an event is: the function answers 503 while Postgres, Redis or Cloud Run is away.
  retry_config {
    max_attempts  = -1
    min_backoff   = "5s"
    max_backoff   = "600s"
    max_doublings = 7
  }

  rate_limits {
    max_dispatches_per_second = 1
    max_concurrent_dispatches = 2
  }

  # A queue that exists keeps its name.
  lifecycle {
    ignore_changes = [name]
  }
}

resource "google_cloud_tasks_queue_iam_member" "enqueuer" {
  for_each = length(var.scalers) > 0 ? merge(var.scalers, var.wakers) : {}

  project  = var.project
  location = google_cloud_tasks_queue.wake[0].location
  name     = google_cloud_tasks_queue.wake[0].name
  role     = "roles/cloudtasks.enqueuer"
  member   = "serviceAccount:${each.value}"
}

# A task has a token of the account that may call the function. Cloud Tasks asks for this right of those who make the task.
resource "google_service_account_iam_member" "wake" {
  for_each = var.wake == null ? {} : merge(var.scalers, var.wakers)

  service_account_id = "projects/${var.project}/serviceAccounts/${var.wake.service_account}"
  role               = "roles/iam.serviceAccountUser"
  member             = "serviceAccount:${each.value}"
}

# Whether an instance came shows only in the operation of the change. Operations belong to the project, not to the worker pool.
resource "google_project_iam_custom_role" "follower" {
  count = contains(keys(var.scalers), "function") ? 1 : 0

  project     = var.project
  role_id     = "${replace(var.name, "-", "_")}_follower${local.role_suffix}"
  title       = "Dropline follower (${var.name})"
  description = "Reads the operations of Cloud Run."
  permissions = ["run.operations.get"]

  lifecycle {
    ignore_changes = [role_id]
  }
}

resource "google_project_iam_member" "follower" {
  count = contains(keys(var.scalers), "function") ? 1 : 0

  project = var.project
  role    = "projects/${var.project}/roles/${google_project_iam_custom_role.follower[0].role_id}"
  member  = "serviceAccount:${var.scalers["function"]}"
}
