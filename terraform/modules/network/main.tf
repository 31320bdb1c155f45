# A network of its own, in which Postgres and Redis have private addresses only.
resource "google_compute_network" "this" {
  project                 = var.project
  name                    = var.name
  auto_create_subnetworks = false
}

# Cloud Run puts its instances here (Direct VPC egress), several addresses each.
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

  # Google chooses a range that is free by then; chosen first, it could be the subnetwork's.
  depends_on = [google_compute_subnetwork.this]
}

resource "google_service_networking_connection" "services" {
  network                 = google_compute_network.this.id
  service                 = "servicenetworking.googleapis.com"
  reserved_peering_ranges = [google_compute_global_address.services.name]

  # Google frees the range of a deleted database hours later, and refuses to delete the connection until then.
  deletion_policy = "REMOVE_PEERING"

  # Its half of such a connection refuses to be created when a network of the same name comes back, but can be updated.
  update_on_creation_fail = true
}
