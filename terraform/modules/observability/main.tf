resource "google_monitoring_notification_channel" "email" {
  for_each = var.emails

  project      = var.project
  display_name = "Dropline: ${each.value}"
  type         = "email"
  labels       = { email_address = each.value }
  user_labels  = var.labels
}

locals {
  alerts = {
    dead_letters = {
      title     = "events became dead letters"
      filter    = "resource.type=\"pubsub_subscription\" AND resource.labels.subscription_id=\"${var.dead_letter_subscription}\" AND metric.type=\"pubsub.googleapis.com/subscription/num_undelivered_messages\""
      aligner   = "ALIGN_MAX"
      reducer   = "REDUCE_SUM"
      threshold = 0
      duration  = "0s"
      severity  = "ERROR"
      what      = "The function refused these events again and again. Its log says why (event_refused, event_deferred). Once that is mended, publish them to the topic again."
    }
    events_wait = {
      title     = "events wait to be taken"
      filter    = "resource.type=\"pubsub_subscription\" AND resource.labels.subscription_id=\"${var.push_subscription}\" AND metric.type=\"pubsub.googleapis.com/subscription/oldest_unacked_message_age\""
      aligner   = "ALIGN_MAX"
      reducer   = "REDUCE_MAX"
      threshold = var.thresholds.oldest_event_s
      duration  = "300s"
      severity  = "WARNING"
      what      = "The function answers 503, or is too slow. Look at Postgres, Redis and the function's log. Nothing is lost: Pub/Sub delivers again."
    }
    server_errors = {
      title     = "the function answers 5xx"
      filter    = "resource.type=\"cloud_run_revision\" AND resource.labels.service_name=\"${var.function_service}\" AND metric.type=\"run.googleapis.com/request_count\" AND metric.labels.response_code_class=\"5xx\""
      aligner   = "ALIGN_RATE"
      reducer   = "REDUCE_SUM"
      threshold = var.thresholds.errors_per_s
      duration  = "300s"
      severity  = "WARNING"
      what      = "503 means that Postgres or Redis is away or full; the log names which (event_deferred)."
    }
    redis_memory = {
      title     = "Redis is nearly full"
      filter    = "resource.type=\"redis_instance\" AND resource.labels.instance_id=monitoring.regex.full_match(\".*/instances/${var.redis_instance}\") AND metric.type=\"redis.googleapis.com/stats/memory/usage_ratio\""
      aligner   = "ALIGN_MAX"
      reducer   = "REDUCE_MAX"
      threshold = 0.8
      duration  = "300s"
      severity  = "ERROR"
      what      = "The queue dropline.captions is long: do workers run? Full, Redis refuses, the function answers 503 and Pub/Sub keeps the events."
    }
    database_disk = {
      title     = "the disk of Postgres is nearly full"
      filter    = "resource.type=\"cloudsql_database\" AND resource.labels.database_id=\"${var.project}:${var.database_instance}\" AND metric.type=\"cloudsql.googleapis.com/database/disk/utilization\""
      aligner   = "ALIGN_MAX"
      reducer   = "REDUCE_MAX"
      threshold = 0.9
      duration  = "300s"
      severity  = "ERROR"
      what      = "The disk grows by itself, so something keeps it from growing: look at the instance's quota and limits."
    }
  }
}

resource "google_monitoring_alert_policy" "this" {
  for_each = local.alerts

  project               = var.project
  display_name          = "${var.name}: ${each.value.title}"
  combiner              = "OR"
  severity              = each.value.severity
  notification_channels = [for channel in google_monitoring_notification_channel.email : channel.id]
  user_labels           = var.labels

  conditions {
    display_name = each.value.title
    condition_threshold {
      filter          = each.value.filter
      comparison      = "COMPARISON_GT"
      threshold_value = each.value.threshold
      duration        = each.value.duration
      aggregations {
        alignment_period     = "60s"
        per_series_aligner   = each.value.aligner
        cross_series_reducer = each.value.reducer
      }
    }
  }

  documentation {
    content   = each.value.what
    mime_type = "text/markdown"
  }
}

# The worker's line for an image that is put aside for good. Read from the log: a metric made from it would be unknown to
# Monitoring for minutes, and the first apply would fail.
resource "google_monitoring_alert_policy" "captions_failed" {
  project               = var.project
  display_name          = "${var.name}: images are put aside"
  combiner              = "OR"
  severity              = "WARNING"
  notification_channels = [for channel in google_monitoring_notification_channel.email : channel.id]
  user_labels           = var.labels

  conditions {
    display_name = "an image became a failed row"
    condition_matched_log {
      filter = "resource.type=\"cloud_run_worker_pool\" AND resource.labels.worker_pool_name=\"${var.worker_pool}\" AND jsonPayload.message=\"caption_failed\""
      label_extractors = {
        code = "EXTRACT(jsonPayload.code)"
      }
    }
  }

  # One bad upload is ordinary; a stream of them need not be told one by one.
  alert_strategy {
    auto_close = "86400s"
    notification_rate_limit {
      period = "3600s"
    }
  }

  documentation {
    content   = "SELECT error_code, count(*) FROM captions WHERE status = 'failed' GROUP BY 1; docs/error-codes.md says what each code means."
    mime_type = "text/markdown"
  }
}
