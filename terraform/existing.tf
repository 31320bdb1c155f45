# Parts that exist already and are given instead of being made. The database module has its own: an existing Postgres still
# gets a database, logins and migrations.
locals {
  network = var.network == null ? {
    network    = module.network[0].network
    subnetwork = module.network[0].subnetwork
  } : { network = var.network.network, subnetwork = var.network.subnetwork }

  # Logins that are there already, by their names in the database module.
  people       = concat(keys(var.database_readers), keys(var.database_editors))
  login_names  = { function = "ingest", worker = "worker", migrator = "migrator", gallery = "gallery" }
  given_logins = try(var.database.existing.has_logins, [])
  existing_database = var.database.existing == null ? null : {
    connection_name = var.database.existing.connection_name
    database        = var.database.existing.database
    has_database    = var.database.existing.has_database
    has_logins      = [for name, login in local.login_names : login if contains(local.given_logins, name)]
    has_people      = setintersection(local.given_logins, local.people)
  }

  # A gallery that only reads sends no messages.
  redis_readers = merge({
    function = google_service_account.this["function"].email
    worker   = google_service_account.this["worker"].email
  }, local.gallery_writes ? { gallery = google_service_account.gallery[0].email } : {})

  redis = var.redis.existing == null ? {
    url_secret  = module.queue[0].url_secret
    certificate = module.queue[0].certificate
    } : {
    url_secret = var.redis.existing.url_secret
    certificate = var.redis.existing.certificate_secret == null ? null : {
      secret    = var.redis.existing.certificate_secret
      directory = "/etc/dropline/redis"
      file      = "ca.pem"
    }
  }

  # The secrets of an existing Redis: PROJECT and NAME of each.
  redis_secrets = {
    for kind, path in {
      url = try(var.redis.existing.url_secret, null)
      ca  = try(var.redis.existing.certificate_secret, null)
    } : kind => { project = split("/", path)[1], name = split("/", path)[3] } if path != null
  }

  # Buckets of other projects, by name, with the project.
  buckets_elsewhere = {
    for bucket in local.buckets : bucket.name => bucket.project if bucket.project != null && bucket.project != var.project
  }
}

# Cloud Storage publishes events as the service agent of the bucket's project. Reading this data source also creates the agent.
data "google_storage_project_service_account" "elsewhere" {
  for_each = toset(values(local.buckets_elsewhere))

  project = each.value

  depends_on = [time_sleep.services]
}

# A plan that enables another API reads the agents only during the apply. An agent's name never changes, so it is remembered:
# otherwise each such apply would take away the right to publish and give it anew, and events in between would be lost.
resource "terraform_data" "storage_agent_elsewhere" {
  for_each = toset(values(local.buckets_elsewhere))

  input            = data.google_storage_project_service_account.elsewhere[each.value].member
  triggers_replace = [each.value]

  lifecycle {
    ignore_changes = [input]
  }
}

resource "google_secret_manager_secret_iam_member" "redis_reader" {
  for_each = {
    for pair in setproduct(keys(local.redis_secrets), keys(local.redis_readers)) :
    "${pair[0]}-${pair[1]}" => { secret = local.redis_secrets[pair[0]], member = local.redis_readers[pair[1]] }
  }

  project   = each.value.secret.project
  secret_id = each.value.secret.name
  role      = "roles/secretmanager.secretAccessor"
  member    = "serviceAccount:${each.value.member}"
}

# As for the secrets of a Redis that Terraform makes.
resource "time_sleep" "redis_readers" {
  count = var.redis.existing == null ? 0 : 1

  create_duration = "120s"
  triggers        = { of = "secrets", roles = join(" ", [for each in google_secret_manager_secret_iam_member.redis_reader : each.id]) }
}
