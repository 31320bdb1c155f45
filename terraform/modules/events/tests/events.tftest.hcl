mock_provider "time" {}

mock_provider "google" {}

variables {
  project              = "drop-project"
  pubsub_agent         = "serviceAccount:service-123456789012@gcp-sa-pubsub.iam.gserviceaccount.com"
  name                 = "dropline"
  sources              = [{ bucket = "drops" }]
  storage_agent        = "serviceAccount:service-123456789012@gs-project-accounts.iam.gserviceaccount.com"
  push_endpoint        = "https://function.example/"
  push_service_account = "dropline-push@drop-project.iam.gserviceaccount.com"
  push_audience        = "dropline-push"
}

run "new_and_gone_objects_and_no_loop" {
  command = plan

  assert {
    condition     = google_storage_notification.this["drops/"].event_types == toset(["OBJECT_FINALIZE", "OBJECT_DELETE", "OBJECT_ARCHIVE"])
    error_message = "Updates of metadata would come again as events."
  }

  assert {
    condition     = google_storage_notification.this["drops/"].object_name_prefix == null
    error_message = "Without a prefix the whole bucket is listened to."
  }
}

run "several_prefixes_of_several_buckets" {
  command = plan
  variables {
    sources = [{ bucket = "a", prefix = "in/" }, { bucket = "a", prefix = "scans/" }, { bucket = "b" }]
  }

  assert {
    condition     = keys(google_storage_notification.this) == ["a/in/", "a/scans/", "b/"]
    error_message = "Each bucket and prefix has its own notification."
  }

  assert {
    condition     = google_storage_notification.this["a/in/"].object_name_prefix == "in/"
    error_message = "The prefix must be passed on."
  }
}

run "agents_of_this_project" {
  command = plan

  assert {
    condition     = google_pubsub_topic_iam_member.pubsub_publishes_dead_letters.member == "serviceAccount:service-123456789012@gcp-sa-pubsub.iam.gserviceaccount.com"
    error_message = "Pub/Sub's agent has the project's number in its name."
  }
}

run "the_same_source_twice" {
  command = plan
  variables {
    sources = [{ bucket = "drops" }, { bucket = "drops" }]
  }
  expect_failures = [var.sources]
}

run "pushes_without_encryption" {
  command = plan
  variables {
    push_endpoint = "http://function.example/"
  }
  expect_failures = [var.push_endpoint]
}

run "too_many_attempts" {
  command = plan
  variables {
    retry = { max_delivery_attempts = 101 }
  }
  expect_failures = [var.retry]
}

run "a_back_off_that_shrinks" {
  command = plan
  variables {
    retry = { minimum_backoff_s = 60, maximum_backoff_s = 10 }
  }
  expect_failures = [var.retry]
}

run "half_an_attempt" {
  command = plan
  variables {
    retry = { max_delivery_attempts = 10.5 }
  }
  expect_failures = [var.retry]
}

run "half_a_second_to_answer" {
  command = plan
  variables {
    ack_deadline_s = 30.5
  }
  expect_failures = [var.ack_deadline_s]
}

run "less_time_than_a_wake_up_takes" {
  command = plan
  variables {
    ack_deadline_s = 12
  }
  expect_failures = [var.ack_deadline_s]
}

run "a_prefix_of_two_lines" {
  command = plan
  variables {
    sources = [{ bucket = "drops", prefix = "a\nb" }]
  }
  expect_failures = [var.sources]
}
