output "url_secret" {
  description = "Id of the secret that holds the address; for DROPLINE_BROKER__URL. Waits until it may be read."
  value       = google_secret_manager_secret.this["url"].secret_id
  depends_on  = [google_secret_manager_secret_version.url, google_secret_manager_secret_iam_member.reader]
}

output "certificate" {
  description = "Secret with the certificate authority, and where the address expects it to be mounted."
  value = {
    secret    = google_secret_manager_secret.this["ca"].secret_id
    directory = local.ca_directory
    file      = local.ca_file
  }
  depends_on = [google_secret_manager_secret_version.ca, google_secret_manager_secret_iam_member.reader]
}

output "instance" {
  description = "Name of the Redis instance."
  value       = google_redis_instance.this.name
}
