locals {
  # A deleted custom role keeps its name for weeks. A role that exists keeps its name too.
  role_suffix = var.suffix == "" ? "" : "_${var.suffix}"
}

# The rights to read an object and to change object metadata: no predefined role is that narrow. Without the right to list, Cloud Storage
# may answer 403 for an object that is gone, as for one that may not be read, and its row would wait for a right.
resource "google_project_iam_custom_role" "captioner" {
  project     = var.project
  role_id     = "${replace(var.name, "-", "_")}_captioner${local.role_suffix}"
  title       = "Dropline captioner (${var.name})"
  description = "Reads and lists objects, and writes object metadata."
  permissions = ["storage.objects.get", "storage.objects.list", "storage.objects.update"]

  lifecycle {
    ignore_changes = [role_id]
  }
}

# The same role in each other project with buckets.
resource "google_project_iam_custom_role" "captioner_elsewhere" {
  for_each = toset(values(var.buckets_elsewhere))

  project = each.value
  # 64 characters at most: name and project have 49 together.
  role_id     = "${replace("${var.name}_${var.project}", "-", "_")}_capt${local.role_suffix}"
  title       = "Dropline captioner (${var.name} in ${var.project})"
  description = google_project_iam_custom_role.captioner.description
  permissions = google_project_iam_custom_role.captioner.permissions

  lifecycle {
    ignore_changes = [role_id]
  }
}

resource "google_storage_bucket_iam_member" "captioner" {
  for_each = var.buckets

  bucket = each.value
  role = (contains(keys(var.buckets_elsewhere), each.value)
    ? "projects/${var.buckets_elsewhere[each.value]}/roles/${google_project_iam_custom_role.captioner_elsewhere[var.buckets_elsewhere[each.value]].role_id}"
    : "projects/${var.project}/roles/${google_project_iam_custom_role.captioner.role_id}"
  )
  member = "serviceAccount:${var.service_account}"

  depends_on = [google_project_iam_custom_role.captioner, google_project_iam_custom_role.captioner_elsewhere]
}

# A role is in effect everywhere only after minutes, and a worker without the right to read objects would fail images for good.
resource "time_sleep" "captioner" {
  create_duration = "120s"
  triggers        = { of = "objects", roles = join(" ", [for each in google_storage_bucket_iam_member.captioner : each.id]) }
}
