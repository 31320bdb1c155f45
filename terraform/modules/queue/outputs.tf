output "url_secret" {
  description = "Id of the secret with the URL of Redis; for DROPLINE_BROKER__URL. Available after the readers have access."
  value       = google_secret_manager_secret.this["url"].secret_id
  depends_on  = [google_secret_manager_secret_version.url, time_sleep.readers]
}

output "certificate" {
  description = "Secret with the certificate of the certificate authority, and the mount path in the URL of Redis."
  value = {
    secret    = google_secret_manager_secret.this["ca"].secret_id
    directory = local.ca_directory
    file      = local.ca_file
  }
  depends_on = [google_secret_manager_secret_version.ca, time_sleep.readers]
}

output "instance" {
  description = "Name of the Redis instance."
  value       = google_redis_instance.this.name
}
