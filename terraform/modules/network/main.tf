# A separate network; Postgres and Redis have only private addresses.
resource "google_compute_network" "this" {
  project                 = var.project
  name                    = var.name
  auto_create_subnetworks = false
}

# Subnetwork of the Cloud Run instances (Direct VPC egress), several addresses per instance.
resource "google_compute_subnetwork" "this" {
  project                  = var.project
  name                     = "${var.name}-${var.region}"
  region                   = var.region
  network                  = google_compute_network.this.id
  ip_cidr_range            = var.cidr
  private_ip_google_access = true

  log_config {
    aggregation_interval = "INTERVAL_10_MIN"
    flow_sampling        = var.flow_sampling
    metadata             = "INCLUDE_ALL_METADATA"
  }
}

resource "google_compute_global_address" "services" {
  project       = var.project
  name          = "${var.name}-services"
  network       = google_compute_network.this.id
  address_type  = "INTERNAL"
  purpose       = "VPC_PEERING"
  prefix_length = 20
  labels        = var.labels

  # Google chooses a free range. Created before the subnetwork, the range could overlap with the subnetwork's range.
  depends_on = [google_compute_subnetwork.this]
}

resource "google_service_networking_connection" "services" {
  network                 = google_compute_network.this.id
  service                 = "servicenetworking.googleapis.com"
  reserved_peering_ranges = [google_compute_global_address.services.name]

  # Google frees the range of a deleted database hours later, and until then refuses to delete the connection. So only the
  # peering is removed.
  deletion_policy = "REMOVE_PEERING"

  # After the network is created anew with the same name, Google's half of the connection still exists: a create fails, an
  # update works.
  update_on_creation_fail = true
}
