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

output "redrive_job" {
  description = "Name of the job that puts failed images into the queue again."
  value       = google_cloud_run_v2_job.redrive.name
}
