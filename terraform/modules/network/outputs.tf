output "network" {
  description = "Id of the network. Waits for the private services, so that what uses it can be created in them."
  value       = google_compute_network.this.id
  depends_on  = [google_service_networking_connection.services]
}

output "subnetwork" {
  description = "Id of the subnetwork for Cloud Run."
  value       = google_compute_subnetwork.this.id
}
