output "network" {
  description = "Id of the network. Available after the private services connection, which Postgres and Redis need."
  value       = google_compute_network.this.id
  depends_on  = [google_service_networking_connection.services]
}

output "subnetwork" {
  description = "Id of the subnetwork for Cloud Run."
  value       = google_compute_subnetwork.this.id
}
