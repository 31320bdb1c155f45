mock_provider "google" {}

variables {
  project = "drop-project"
  region  = "us-central1"
  name    = "dropline"
}

run "one_subnetwork_of_our_own" {
  command = plan

  assert {
    condition     = google_compute_network.this.auto_create_subnetworks == false
    error_message = "The network must not bring a subnetwork in every region."
  }

  assert {
    condition     = google_compute_subnetwork.this.private_ip_google_access
    error_message = "Instances must reach Google's APIs without public addresses."
  }
}

run "destroy_ends_clean" {
  command = plan

  assert {
    condition     = google_service_networking_connection.services.deletion_policy == "REMOVE_PEERING"
    error_message = "The connection must go even while Google still holds a deleted database's range."
  }

  assert {
    condition     = google_service_networking_connection.services.update_on_creation_fail
    error_message = "A network that comes back meets Google's half of its old connection, which can only be updated."
  }
}

run "a_range_that_is_too_small" {
  command = plan
  variables {
    cidr = "10.0.0.0/28"
  }
  expect_failures = [var.cidr]
}

run "no_range" {
  command = plan
  variables {
    cidr = "somewhere"
  }
  expect_failures = [var.cidr]
}

run "a_range_that_begins_within" {
  command = plan
  variables {
    cidr = "10.20.0.1/22"
  }
  expect_failures = [var.cidr]
}

run "a_range_of_ipv6" {
  command = plan
  variables {
    cidr = "fd00::/20"
  }
  expect_failures = [var.cidr]
}

run "half_of_all_addresses" {
  command = plan
  variables {
    cidr = "0.0.0.0/1"
  }
  expect_failures = [var.cidr]
}
