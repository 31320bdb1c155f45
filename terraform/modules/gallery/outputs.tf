output "url" {
  description = "Address of the gallery. Available after the members have access."
  value       = google_cloud_run_v2_service.gallery.uri
  depends_on  = [google_cloud_run_v2_service_iam_member.proxy, google_iap_web_cloud_run_service_iam_member.person]
}

output "service" {
  description = "Name of the Cloud Run service."
  value       = google_cloud_run_v2_service.gallery.name
}
