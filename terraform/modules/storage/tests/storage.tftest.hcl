mock_provider "google" {}

variables {
  project  = "drop-project"
  location = "us-central1"
  buckets = [
    { name = "new-drops" },
    { name = "old-drops", create = false },
  ]
}

run "only_new_buckets_are_created" {
  command = plan

  assert {
    condition     = keys(google_storage_bucket.this) == ["new-drops"]
    error_message = "A bucket that exists already must be left as it is."
  }

  assert {
    condition     = output.names == toset(["new-drops", "old-drops"])
    error_message = "Both are buckets to drop images into."
  }
}

run "protected_unless_told_otherwise" {
  command = plan

  assert {
    condition     = google_storage_bucket.this["new-drops"].deletion_policy == "PREVENT" && !google_storage_bucket.this["new-drops"].force_destroy
    error_message = "A bucket must not be deleted by default."
  }
}

run "a_trial_can_be_torn_down" {
  command = plan
  variables {
    deletion_protection = false
  }

  assert {
    condition     = google_storage_bucket.this["new-drops"].deletion_policy == "DELETE" && google_storage_bucket.this["new-drops"].force_destroy
    error_message = "Without protection a bucket goes with its objects."
  }
}

run "no_bucket_at_all" {
  command = plan
  variables {
    buckets = []
  }
  expect_failures = [var.buckets]
}

run "a_bucket_twice" {
  command = plan
  variables {
    buckets = [{ name = "drops" }, { name = "drops" }]
  }
  expect_failures = [var.buckets]
}

run "a_url_for_a_name" {
  command = plan
  variables {
    buckets = [{ name = "gs://drops" }]
  }
  expect_failures = [var.buckets]
}

run "days_that_cloud_storage_refuses" {
  command = plan
  variables {
    soft_delete_days = 3
  }
  expect_failures = [var.soft_delete_days]
}

run "a_name_that_is_too_long" {
  command = plan
  variables {
    buckets = [{ name = join("", [for number in range(64) : "a"]) }]
  }
  expect_failures = [var.buckets]
}

run "a_name_of_google" {
  command = plan
  variables {
    buckets = [{ name = "my-google-drops" }]
  }
  expect_failures = [var.buckets]
}

run "a_storage_class_of_no_name" {
  command = plan
  variables {
    buckets = [{ name = "drops", storage_class = "standard" }]
  }
  expect_failures = [var.buckets]
}

run "a_bucket_in_a_zone" {
  command = plan
  variables {
    buckets = [{ name = "drops", location = "europe-west4-a" }]
  }
  expect_failures = [var.buckets]
}

run "half_a_day_of_restore" {
  command = plan
  variables {
    soft_delete_days = 7.5
  }
  expect_failures = [var.soft_delete_days]
}
