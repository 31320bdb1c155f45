# Changing the number of instances, and nothing else. Cloud Run also asks for the right to act as the pool's account.
resource "google_project_iam_custom_role" "scaler" {
  count = length(var.scalers) > 0 ? 1 : 0

  project     = var.project
  role_id     = "${replace(var.name, "-", "_")}_scaler"
  title       = "Dropline scaler (${var.name})"
  description = "Sets the number of a worker pool's instances."
  permissions = ["run.workerpools.get", "run.workerpools.update"]
}

resource "google_cloud_run_v2_worker_pool_iam_member" "scaler" {
  for_each = var.scalers

  project  = var.project
  location = google_cloud_run_v2_worker_pool.this.location
  name     = google_cloud_run_v2_worker_pool.this.name
  role     = "projects/${var.project}/roles/${google_project_iam_custom_role.scaler[0].role_id}"
  member   = "serviceAccount:${each.value}"

  depends_on = [google_project_iam_custom_role.scaler]
}

resource "google_service_account_iam_member" "scaler" {
  for_each = var.scalers

  service_account_id = "projects/${var.project}/serviceAccounts/${var.service_account}"
  role               = "roles/iam.serviceAccountUser"
  member             = "serviceAccount:${each.value}"
}
