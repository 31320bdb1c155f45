output "push_endpoint" {
  description = "Push endpoint, the URL of the function. Available after its callers have the right to invoke the function."
  value       = "${google_cloud_run_v2_service.this.uri}/"
  depends_on  = [google_cloud_run_v2_service_iam_member.push, google_cloud_run_v2_service_iam_member.wake]
}

output "push_audience" {
  description = "Required audience of push tokens."
  value       = local.audience
}

output "service" {
  description = "Name of the Cloud Run service."
  value       = google_cloud_run_v2_service.this.name
}

output "redrive_job" {
  description = "Name of the redrive job, which queues failed images again."
  value       = google_cloud_run_v2_job.redrive.name
}
