# Logins besides those of the processes and the readers: editors of captions, and the gallery.
locals {
  editor_login  = [for name in keys(var.editors) : local.person_login[name]]
  gallery_login = var.gallery == null ? null : trimsuffix(var.gallery.email, ".gserviceaccount.com")
  gallery_role  = var.gallery == null ? null : var.gallery.writes ? "dropline_gallery" : "dropline_reader"

  # Grants of the migrations' job, which also revokes the roles that a login had before.
  further_grants = concat(
    [for login in local.editor_login : "--grant=dropline_editor=${login}"],
    local.gallery_login == null ? [] : ["--grant=${local.gallery_role}=${local.gallery_login}"],
  )

  further_members = var.gallery == null ? {} : { gallery = "serviceAccount:${var.gallery.email}" }
}

resource "google_sql_user" "gallery" {
  count = var.gallery == null || contains(local.has_logins, "gallery") ? 0 : 1

  project  = local.instance_project
  instance = local.instance
  name     = local.gallery_login
  type     = "CLOUD_IAM_SERVICE_ACCOUNT"

  # The gallery owns no objects and can be dropped, whatever the provider's own `deletion_policy` is.
  deletion_policy = var.deletion_protection ? "DELETE" : "ABANDON"
}
