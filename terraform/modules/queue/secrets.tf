locals {
  secret_ids = {
    url = "${var.name}-redis-url"
    ca  = "${var.name}-redis-ca"
  }
}

resource "google_secret_manager_secret" "this" {
  for_each = local.secret_ids

  project   = var.project
  secret_id = each.value
  labels    = var.labels

  replication {
    auto {}
  }
}

# The URL contains the password, so the whole URL is the secret.
resource "google_secret_manager_secret_version" "url" {
  secret      = google_secret_manager_secret.this["url"].id
  secret_data = local.url
}

resource "google_secret_manager_secret_version" "ca" {
  secret      = google_secret_manager_secret.this["ca"].id
  secret_data = join("\n", google_redis_instance.this.server_ca_certs[*].cert)
}

resource "google_secret_manager_secret_iam_member" "reader" {
  for_each = {
    for pair in setproduct(keys(local.secret_ids), keys(var.readers)) :
    "${pair[0]}-${pair[1]}" => { secret = pair[0], member = var.readers[pair[1]] }
  }

  project   = var.project
  secret_id = google_secret_manager_secret.this[each.value.secret].secret_id
  role      = "roles/secretmanager.secretAccessor"
  member    = "serviceAccount:${each.value.member}"
}

# A role is in effect everywhere only after minutes, and Cloud Run refuses a container whose account cannot read its secrets.
resource "time_sleep" "readers" {
  create_duration = "120s"
  triggers        = { of = "secrets", roles = join(" ", [for each in google_secret_manager_secret_iam_member.reader : each.id]) }
}
