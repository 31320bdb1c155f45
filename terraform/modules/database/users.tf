resource "google_sql_user" "service" {
  for_each = { for role, login in local.login : role => login if !contains(local.has_logins, role) }

  project  = local.instance_project
  instance = local.instance
  name     = each.value
  type     = "CLOUD_IAM_SERVICE_ACCOUNT"

  # The migrations create roles, so the login of the migrations needs the right to do so.
  database_roles = each.key == "migrator" ? ["cloudsqlsuperuser"] : null

  # A login that owns objects cannot be dropped; the login is deleted with the instance.
  deletion_policy = "ABANDON"
}

resource "google_sql_user" "person" {
  for_each = { for name, email in local.people : name => email if !contains(local.has_people, name) }

  project  = local.instance_project
  instance = local.instance
  name     = local.person_login[each.key]
  type     = endswith(each.value, ".gserviceaccount.com") ? "CLOUD_IAM_SERVICE_ACCOUNT" : "CLOUD_IAM_USER"

  # A person owns no objects and can be dropped. A removed person must not keep the roles: a later IAM grant would restore
  # the access. Without a value the provider's own `deletion_policy`, which the caller sets, would decide.
  deletion_policy = var.deletion_protection ? "DELETE" : "ABANDON"
}

moved {
  from = google_sql_user.reader
  to   = google_sql_user.person
}

locals {
  members = merge(
    { for role, email in var.logins : role => "serviceAccount:${email}" },
    # Editors too: a person who becomes an editor keeps the rights to connect and to log in.
    { for name, email in local.people : "reader ${name}" => endswith(email, ".gserviceaccount.com") ? "serviceAccount:${email}" : "user:${email}" },
    local.further_members,
  )
}

# The right to connect and the right to log in, both limited to this instance.
resource "google_project_iam_member" "login" {
  for_each = {
    for pair in setproduct(["roles/cloudsql.client", "roles/cloudsql.instanceUser"], keys(local.members)) :
    "${pair[0]}/${pair[1]}" => { role = pair[0], member = local.members[pair[1]] }
  }

  project = local.instance_project
  role    = each.value.role
  member  = each.value.member

  condition {
    title      = "${local.instance_name} only"
    expression = "resource.name == \"projects/${local.instance_project}/instances/${local.instance_name}\" && resource.type == \"sqladmin.googleapis.com/Instance\""
  }
}

# A role is in effect everywhere only after minutes, and the migrations log in at once.
resource "time_sleep" "login" {
  create_duration = "120s"
  triggers        = { of = "logins", roles = join(" ", [for each in google_project_iam_member.login : each.id]) }
}
