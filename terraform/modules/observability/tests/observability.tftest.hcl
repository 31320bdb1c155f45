mock_provider "google" {}

variables {
  project                  = "drop-project"
  project_number           = "123456789012"
  name                     = "dropline"
  push_subscription        = "dropline-push"
  dead_letter_subscription = "dropline-dead-letters"
  function_service         = "dropline-function"
  worker_pool              = "dropline-worker"
  redis_instance           = "dropline"
  database_instance        = "dropline"
}

run "one_dead_letter_is_enough" {
  command = plan

  assert {
    condition     = google_monitoring_alert_policy.this["dead_letters"].conditions[0].condition_threshold[0].threshold_value == 0
    error_message = "The first dead letter must be told."
  }

  assert {
    condition     = strcontains(google_monitoring_alert_policy.this["dead_letters"].conditions[0].condition_threshold[0].filter, "\"dropline-dead-letters\"")
    error_message = "The alert watches the dead letters."
  }

  assert {
    condition     = length(google_billing_budget.this) == 0
    error_message = "A budget needs rights that not everybody has; none is made unless it is asked for."
  }
}

run "everybody_is_told" {
  command = plan
  variables {
    emails = ["a@example.com", "b@example.com"]
    budget = { billing_account = "000000-111111-222222", amount = 100 }
  }

  assert {
    condition     = length(google_monitoring_notification_channel.email) == 2
    error_message = "Each address is a channel."
  }

  assert {
    condition     = google_billing_budget.this[0].amount[0].specified_amount[0].units == "100"
    error_message = "The budget is what was asked for."
  }
}

run "no_address" {
  command = plan
  variables {
    emails = ["somebody"]
  }
  expect_failures = [var.emails]
}

run "a_budget_of_nothing" {
  command = plan
  variables {
    budget = { billing_account = "000000-111111-222222", amount = 0 }
  }
  expect_failures = [var.budget]
}

run "what_is_accepted_must_be_finished" {
  command = plan

  assert {
    condition     = google_monitoring_alert_policy.this["images_wait"].conditions[0].condition_prometheus_query_language[0].query == "sum(increase(logging_googleapis_com:user_dropline_accepted{monitored_resource=\"cloud_run_revision\"}[1800s])) > 0 unless sum(increase(logging_googleapis_com:user_dropline_finished{monitored_resource=\"cloud_run_worker_pool\"}[1800s])) > 0"
    error_message = "The window is twice the time for which it must hold, or a quiet hour would be an alert."
  }

  assert {
    condition     = google_monitoring_alert_policy.this["images_wait"].conditions[0].condition_prometheus_query_language[0].disable_metric_validation
    error_message = "The first apply cannot wait until the metrics are known."
  }

  assert {
    condition     = !contains(keys(google_monitoring_alert_policy.this), "pool_awake")
    error_message = "Without scale to zero, a running worker pool without work must not cause an alert."
  }
}

run "a_pool_that_should_sleep" {
  command = plan
  variables {
    name        = "my-drops"
    pool_idle_s = 300
  }

  assert {
    condition     = strcontains(google_monitoring_alert_policy.this["pool_awake"].conditions[0].condition_prometheus_query_language[0].query, "user_my_drops_finished{monitored_resource=\"cloud_run_worker_pool\"}[3900s]")
    error_message = "An hour beyond the idle time without anything finished is an alert; PromQL's names have no dashes."
  }

  assert {
    condition     = google_logging_metric.this["finished"].name == "my_drops_finished"
    error_message = "The metric must be the one that is asked for."
  }
}

run "a_gallery_is_watched" {
  command = plan
  variables {
    gallery_service = "dropline-gallery"
  }

  assert {
    condition     = strcontains(google_monitoring_alert_policy.this["gallery_errors"].conditions[0].condition_threshold[0].filter, "service_name=\"dropline-gallery\"")
    error_message = "The gallery's errors are an alert."
  }

  assert {
    condition     = strcontains(google_monitoring_alert_policy.this["pool_refused"].conditions[0].condition_matched_log[0].filter, "service_name=\"dropline-gallery\"") && startswith(google_monitoring_alert_policy.this["pool_refused"].conditions[0].condition_matched_log[0].filter, "((resource")
    error_message = "The gallery's refused tasks are in the alert on workers that are not woken."
  }
}

run "no_gallery_to_watch" {
  command = plan

  assert {
    condition     = !contains(keys(google_monitoring_alert_policy.this), "gallery_errors") && !strcontains(google_monitoring_alert_policy.this["pool_refused"].conditions[0].condition_matched_log[0].filter, "gallery")
    error_message = "Without a gallery there is no alert on it."
  }
}

run "times_are_distributions" {
  command = plan

  assert {
    condition     = google_logging_metric.timed["latency"].value_extractor == "EXTRACT(jsonPayload.waited_s)" && google_logging_metric.timed["latency"].metric_descriptor[0].value_type == "DISTRIBUTION"
    error_message = "Seconds cannot be counted."
  }

  assert {
    condition     = strcontains(google_monitoring_dashboard.this.dashboard_json, "\"alignmentPeriod\":\"3600s\"")
    error_message = "The mean number of instances in an hour is the hours of that hour."
  }
}

run "an_impatient_alert" {
  command = plan
  variables {
    thresholds = { image_waits_s = 60 }
  }
  expect_failures = [var.thresholds]
}

run "a_budget_that_tells_too_many" {
  command = plan
  variables {
    emails = [for number in range(6) : "person-${number}@example.com"]
    budget = { billing_account = "000000-111111-222222", amount = 100 }
  }
  expect_failures = [var.budget]
}

run "an_alert_on_every_event" {
  command = plan
  variables {
    thresholds = { oldest_event_s = 0 }
  }
  expect_failures = [var.thresholds]
}

run "an_account_by_its_name" {
  command = plan
  variables {
    budget = { billing_account = "My account", amount = 100 }
  }
  expect_failures = [var.budget]
}

run "a_currency_by_its_sign" {
  command = plan
  variables {
    budget = { billing_account = "000000-111111-222222", amount = 100, currency = "€" }
  }
  expect_failures = [var.budget]
}
