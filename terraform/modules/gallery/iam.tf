# The rights on objects that the scopes need, and no others.
locals {
  # A deleted custom role keeps its name for weeks. A role that exists keeps its name too.
  role_suffix = var.suffix == "" ? "" : "_${var.suffix}"

  # Beginning of a role's name in another project. 64 characters at most: name and project have 49 together.
  role_prefix = replace("${var.name}_${var.project}", "-", "_")

  # Uploads go to the first bucket alone.
  upload_bucket  = var.buckets[0]
  upload_project = lookup(var.buckets_elsewhere, local.upload_bucket, var.project)
}

resource "google_project_iam_custom_role" "gallery" {
  project     = var.project
  role_id     = "${replace(var.name, "-", "_")}_gallery${local.role_suffix}"
  title       = "Dropline gallery (${var.name})"
  description = "Reads objects; with the scope edit lists objects."
  permissions = concat(
    ["storage.objects.get"],
    # Backfills.
    local.may_edit ? ["storage.objects.list"] : [],
  )

  lifecycle {
    ignore_changes = [role_id]
  }
}

# The same role in each other project with buckets: a custom role can only be given in its own project.
resource "google_project_iam_custom_role" "gallery_elsewhere" {
  for_each = toset(values(var.buckets_elsewhere))

  project     = each.value
  role_id     = "${local.role_prefix}_gallery${local.role_suffix}"
  title       = "Dropline gallery (${var.name} in ${var.project})"
  description = google_project_iam_custom_role.gallery.description
  permissions = google_project_iam_custom_role.gallery.permissions

  lifecycle {
    ignore_changes = [role_id]
  }
}

resource "google_storage_bucket_iam_member" "gallery" {
  for_each = toset(var.buckets)

  bucket = each.value
  role = (contains(keys(var.buckets_elsewhere), each.value)
    ? "projects/${var.buckets_elsewhere[each.value]}/roles/${google_project_iam_custom_role.gallery_elsewhere[var.buckets_elsewhere[each.value]].role_id}"
    : "projects/${var.project}/roles/${google_project_iam_custom_role.gallery.role_id}"
  )
  member = "serviceAccount:${var.service_account}"

  depends_on = [google_project_iam_custom_role.gallery, google_project_iam_custom_role.gallery_elsewhere]
}

# Without storage.objects.delete an upload cannot replace an object.
resource "google_project_iam_custom_role" "uploads" {
  count = contains(var.scopes, "submit") ? 1 : 0

  project     = local.upload_project
  role_id     = "${local.upload_project == var.project ? replace(var.name, "-", "_") : local.role_prefix}_uploads${local.role_suffix}"
  title       = "Dropline uploads (${var.name} in ${var.project})"
  description = "Creates objects."
  permissions = ["storage.objects.create"]

  lifecycle {
    ignore_changes = [role_id]
  }
}

resource "google_storage_bucket_iam_member" "uploads" {
  count = contains(var.scopes, "submit") ? 1 : 0

  bucket = local.upload_bucket
  role   = "projects/${local.upload_project}/roles/${google_project_iam_custom_role.uploads[0].role_id}"
  member = "serviceAccount:${var.service_account}"

  depends_on = [google_project_iam_custom_role.uploads]
}

# With Identity-Aware Proxy, its service agent alone may call the service, and the proxy admits the members.
resource "google_cloud_run_v2_service_iam_member" "proxy" {
  count = local.has_iap ? 1 : 0

  project  = var.project
  location = google_cloud_run_v2_service.gallery.location
  name     = google_cloud_run_v2_service.gallery.name
  role     = "roles/run.invoker"
  member   = "serviceAccount:service-${var.project_number}@gcp-sa-iap.iam.gserviceaccount.com"
}

resource "google_iap_web_cloud_run_service_iam_member" "person" {
  for_each = toset(var.members)

  project                = var.project
  location               = google_cloud_run_v2_service.gallery.location
  cloud_run_service_name = google_cloud_run_v2_service.gallery.name
  role                   = "roles/iap.httpsResourceAccessor"
  member                 = each.value
}

# Names, scopes and SHA-256 of the tokens; the tokens themselves are nowhere in Google Cloud.
resource "google_secret_manager_secret" "tokens" {
  count = length(var.tokens) > 0 ? 1 : 0

  project   = var.project
  secret_id = "${var.name}-gallery-tokens"
  labels    = var.labels

  replication {
    auto {}
  }
}

resource "google_secret_manager_secret_version" "tokens" {
  count = length(var.tokens) > 0 ? 1 : 0

  secret      = google_secret_manager_secret.tokens[0].id
  secret_data = jsonencode(var.tokens)

  # Instances of the old revision read the old version until the new revision serves.
  lifecycle {
    create_before_destroy = true
  }
}

resource "google_secret_manager_secret_iam_member" "tokens" {
  count = length(var.tokens) > 0 ? 1 : 0

  project   = var.project
  secret_id = google_secret_manager_secret.tokens[0].secret_id
  role      = "roles/secretmanager.secretAccessor"
  member    = "serviceAccount:${var.service_account}"
}

# A role is in effect everywhere only after minutes, and Cloud Run refuses a container whose account cannot read its secrets.
resource "time_sleep" "tokens" {
  count = length(var.tokens) > 0 ? 1 : 0

  create_duration = "120s"
  triggers        = { of = "tokens", roles = google_secret_manager_secret_iam_member.tokens[0].id }
}
