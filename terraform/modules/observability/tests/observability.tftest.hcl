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
