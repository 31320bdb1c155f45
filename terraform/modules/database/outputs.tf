output "urls" {
  description = "Postgres URL by login (`ingest`, `worker`), without a password, through the sidecar proxy; for DROPLINE_DATABASE__URL. Available after the migrations."
  value       = { for role, url in local.urls : role => url if role != "migrator" }
  depends_on  = [google_cloud_run_v2_job.migrations]
}

output "reader_urls" {
  description = "Postgres URL by reader's or editor's name, without a password, through the sidecar proxy."
  value       = { for name, login in local.person_login : name => "postgresql://${urlencode(login)}${local.parameters}" }
  depends_on  = [google_cloud_run_v2_job.migrations]
}

output "gallery_url" {
  description = "Postgres URL of the gallery, without a password, through the sidecar proxy; null without a gallery."
  value       = var.gallery == null ? null : "postgresql://${urlencode(local.gallery_login)}${local.parameters}"
  depends_on  = [google_cloud_run_v2_job.migrations]
}

output "proxy" {
  description = "The Cloud SQL Auth Proxy, a sidecar of each service and worker pool that needs Postgres. `job_command` is for the beginning of a job's command: the proxy runs in the job's own container, whose image contains the proxy."
  value = {
    image       = var.proxy_image
    args        = local.proxy_arguments
    health_port = local.health_port
    job_command = local.proxy_command
  }
}

output "instance" {
  description = "Name of the instance; null for an existing instance."
  value       = one(google_sql_database_instance.this[*].name)
}

output "connection_name" {
  description = "Connection name of the instance, for a separate proxy."
  value       = local.connection_name
}

output "migrations_job" {
  description = "Name of the migrations job; an apply with another image runs the job."
  value       = google_cloud_run_v2_job.migrations.name
}

output "execution" {
  description = "Execution token of the latest run of the migrations."
  value       = google_cloud_run_v2_job.migrations.run_execution_token
}
