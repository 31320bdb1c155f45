# The rights to change this worker pool and to act as the worker's service account: Cloud Run refuses the change without the
# second right. A change reads the worker pool and sends it back whole.
resource "google_project_iam_custom_role" "scaler" {
  count = length(var.scalers) > 0 ? 1 : 0

  project     = var.project
  role_id     = "${replace(var.name, "-", "_")}_scaler${local.role_suffix}"
  title       = "Dropline scaler (${var.name})"
  description = "Sets the number of instances of a worker pool."
  permissions = ["run.workerpools.get", "run.workerpools.update"]

  lifecycle {
    ignore_changes = [role_id]
  }
}

resource "google_cloud_run_v2_worker_pool_iam_member" "scaler" {
  for_each = var.scalers

  project  = var.project
  location = google_cloud_run_v2_worker_pool.this.location
  name     = google_cloud_run_v2_worker_pool.this.name
  role     = "projects/${var.project}/roles/${google_project_iam_custom_role.scaler[0].role_id}"
  member   = "serviceAccount:${each.value}"

  # A replaced worker pool has the old name, but no IAM members.
  lifecycle {
    replace_triggered_by = [terraform_data.instances]
  }

  depends_on = [google_project_iam_custom_role.scaler]
}

resource "google_service_account_iam_member" "scaler" {
  for_each = var.scalers

  service_account_id = "projects/${var.project}/serviceAccounts/${var.service_account}"
  role               = "roles/iam.serviceAccountUser"
  member             = "serviceAccount:${each.value}"
}
