output "push_endpoint" {
  description = "Address that events are pushed to. Waits until the push account may use it."
  value       = "${google_cloud_run_v2_service.this.uri}/"
  depends_on  = [google_cloud_run_v2_service_iam_member.push]
}

output "push_audience" {
  description = "Audience that the function expects of push tokens."
  value       = local.audience
}

output "service" {
  description = "Name of the Cloud Run service."
  value       = google_cloud_run_v2_service.this.name
}
