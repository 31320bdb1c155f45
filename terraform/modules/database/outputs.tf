output "urls" {
  description = "Address by login (`ingest`, `worker`), without a password, through the proxy beside the container; for DROPLINE_DATABASE__URL. Waits for the migrations."
  value       = { for role, url in local.urls : role => url if role != "migrator" }
  depends_on  = [google_cloud_run_v2_job.migrations]
}

output "reader_urls" {
  description = "Address by reader's name, likewise."
  value       = { for name, login in local.reader_login : name => "postgresql://${urlencode(login)}${local.parameters}" }
  depends_on  = [google_cloud_run_v2_job.migrations]
}

output "proxy" {
  description = "The Cloud SQL Auth Proxy, to be run beside each container that needs Postgres; beside a job, with `stop.args`, and told at `stop.url` to end."
  value = {
    image       = var.proxy_image
    args        = local.proxy_arguments
    health_port = local.health_port
    stop        = local.proxy_stop
  }
}

output "instance" {
  description = "Name of the instance."
  value       = google_sql_database_instance.this.name
}

output "connection_name" {
  description = "Connection name of the instance, for a proxy of one's own."
  value       = google_sql_database_instance.this.connection_name
}

output "migrations_job" {
  description = "Name of the job that migrates; every apply with another image runs it."
  value       = google_cloud_run_v2_job.migrations.name
}

output "execution" {
  description = "Token of the migrations' latest execution."
  value       = google_cloud_run_v2_job.migrations.run_execution_token
}
