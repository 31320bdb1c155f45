output "urls" {
  description = "Address by login (`ingest`, `worker`), without a password, through the proxy beside the container; for DROPLINE_DATABASE__URL. Waits for the migrations."
  value       = { for role, url in local.urls : role => url if role != "migrator" }
  depends_on  = [google_cloud_run_v2_job.migrations]
}

output "proxy" {
  description = "The Cloud SQL Auth Proxy, to be run beside each container that needs Postgres."
  value = {
    image       = var.proxy_image
    args        = local.proxy_arguments
    health_port = local.health_port
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

output "execution" {
  description = "Token of the migrations' latest execution."
  value       = google_cloud_run_v2_job.migrations.run_execution_token
}
