# Changing this one pool, and acting as its one account: without the latter Cloud Run refuses the former. Waking and putting
# to sleep read nothing, and do not wait for the operation; but whether Cloud Run takes a change from somebody who may not
# look is documented nowhere, and the least that others name has both.
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

  # A pool that is made anew has its old name, but none of its members.
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
