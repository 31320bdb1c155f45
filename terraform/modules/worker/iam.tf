# The rights to read an object and to change object metadata, and no others: no predefined role is that narrow.
resource "google_project_iam_custom_role" "captioner" {
  project     = var.project
  role_id     = "${replace(var.name, "-", "_")}_captioner"
  title       = "Dropline captioner (${var.name})"
  description = "Reads objects and writes object metadata."
  permissions = ["storage.objects.get", "storage.objects.update"]
}

resource "google_storage_bucket_iam_member" "captioner" {
  for_each = var.buckets

  bucket = each.value
  role   = "projects/${var.project}/roles/${google_project_iam_custom_role.captioner.role_id}"
  member = "serviceAccount:${var.service_account}"

  depends_on = [google_project_iam_custom_role.captioner]
}
