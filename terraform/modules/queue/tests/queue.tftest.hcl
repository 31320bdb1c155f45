mock_provider "time" {}

mock_provider "google" {
  mock_resource "google_redis_instance" {
    defaults = {
      host            = "10.1.2.3"
      port            = 6378
      auth_string     = "word"
      server_ca_certs = [{ cert = "first" }, { cert = "second" }]
    }
  }
}

variables {
  project = "drop-project"
  region  = "us-central1"
  name    = "dropline"
  network = "network"
  readers = { function = "f@example.com", worker = "w@example.com" }
}

run "nothing_is_evicted" {
  command = plan

  assert {
    condition     = google_redis_instance.this.redis_configs["maxmemory-policy"] == "noeviction"
    error_message = "Any other policy may drop the queue itself."
  }

  assert {
    condition     = google_redis_instance.this.tier == "STANDARD_HA" && google_redis_instance.this.auth_enabled
    error_message = "Redis has two zones and a password."
  }
}

run "the_address_is_a_secret" {
  command = apply

  assert {
    condition     = startswith(nonsensitive(google_secret_manager_secret_version.url.secret_data), "rediss://:word@10.1.2.3:6378/0?ssl_cert_reqs=required&")
    error_message = "The address encrypts, verifies and has the password."
  }

  assert {
    condition     = nonsensitive(google_secret_manager_secret_version.ca.secret_data) == "first\nsecond"
    error_message = "While certificates are rotated there are two authorities."
  }

  assert {
    condition     = length(google_secret_manager_secret_iam_member.reader) == 4
    error_message = "Both readers read both secrets."
  }
}

run "part_of_a_gibibyte" {
  command = plan
  variables {
    memory_gb = 1.5
  }
  expect_failures = [var.memory_gb]
}

run "a_trial" {
  command = plan
  variables {
    tier = "BASIC"
  }

  assert {
    condition     = google_redis_instance.this.tier == "BASIC" && google_redis_instance.this.auth_enabled
    error_message = "Redis of a trial has one zone, and a password."
  }
}

run "an_unknown_tier" {
  command = plan
  variables {
    tier = "GOLD"
  }
  expect_failures = [var.tier]
}
