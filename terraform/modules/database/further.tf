# Logins besides those of the processes and the readers: editors of captions, and the gallery.
locals {
  editor_login  = { for name, email in var.editors : name => trimsuffix(email, ".gserviceaccount.com") }
  gallery_login = var.gallery == null ? null : trimsuffix(var.gallery.email, ".gserviceaccount.com")
  gallery_role  = var.gallery == null ? null : var.gallery.writes ? "dropline_gallery" : "dropline_reader"

  # Grants of the migrations' job.
  further_grants = concat(
    [for login in local.editor_login : "--grant=dropline_reader=${login}"],
    [for login in local.editor_login : "--grant=dropline_editor=${login}"],
    local.gallery_login == null ? [] : ["--grant=${local.gallery_role}=${local.gallery_login}"],
  )

  further_members = merge(
    { for name, email in var.editors : "editor ${name}" => endswith(email, ".gserviceaccount.com") ? "serviceAccount:${email}" : "user:${email}" },
    var.gallery == null ? {} : { gallery = "serviceAccount:${var.gallery.email}" },
  )
}

resource "google_sql_user" "editor" {
  for_each = var.editors

  project  = local.instance_project
  instance = local.instance
  name     = local.editor_login[each.key]
  type     = endswith(each.value, ".gserviceaccount.com") ? "CLOUD_IAM_SERVICE_ACCOUNT" : "CLOUD_IAM_USER"

  # As for a reader.
  deletion_policy = var.deletion_protection ? "DELETE" : "ABANDON"
}

resource "google_sql_user" "gallery" {
  count = var.gallery == null ? 0 : 1

  project  = local.instance_project
  instance = local.instance
  name     = local.gallery_login
  type     = "CLOUD_IAM_SERVICE_ACCOUNT"

  # The gallery owns no objects. A gallery that only reads must not keep the role of one that writes.
  deletion_policy = var.deletion_protection ? "DELETE" : "ABANDON"

  lifecycle {
    replace_triggered_by = [terraform_data.gallery_role]
  }
}

resource "terraform_data" "gallery_role" {
  input = local.gallery_role
}
