# The queue of Cloud Tasks whose tasks call the function: at the time of a row in a long back-off, and some minutes after the worker
# pool was woken, to check that a worker is ready.
locals {
  queue_path = "projects/${var.project}/locations/${var.region}/queues/${try(google_cloud_tasks_queue.wake[0].name, "")}"
}

resource "google_cloud_tasks_queue" "wake" {
  count = length(var.scalers) > 0 ? 1 : 0

  project  = var.project
  name     = join("-", compact([var.name, "wake", var.suffix]))
  location = var.region

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
