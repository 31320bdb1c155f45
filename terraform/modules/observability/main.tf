resource "google_monitoring_notification_channel" "email" {
  for_each = var.emails

  project      = var.project
  display_name = "Dropline: ${each.value}"
  type         = "email"
  labels       = { email_address = each.value }
  user_labels  = var.labels
}

# Alerts on Google's own metrics.
locals {
  measured = merge(local.measured_always, local.measured_gallery, local.measured_redis, local.measured_postgres)

  measured_always = {
    dead_letters = {
      page      = "dead-letters-of-pubsub"
      title     = "events became dead letters"
      filter    = "resource.type=\"pubsub_subscription\" AND resource.labels.subscription_id=\"${var.dead_letter_subscription}\" AND metric.type=\"pubsub.googleapis.com/subscription/num_undelivered_messages\""
      aligner   = "ALIGN_MAX"
      reducer   = "REDUCE_SUM"
      threshold = 0
      duration  = "0s"
      severity  = "ERROR"
      what      = "The function refused these events at every delivery attempt. The function's log has the reason (event_refused, event_deferred). Remove the cause, then push the dead letters again (docs/operate.md). Dead letters are kept for 31 days."
    }
    events_wait = {
      page      = "alerts-and-what-to-do"
      title     = "events wait to be taken"
      filter    = "resource.type=\"pubsub_subscription\" AND resource.labels.subscription_id=\"${var.push_subscription}\" AND metric.type=\"pubsub.googleapis.com/subscription/oldest_unacked_message_age\""
      aligner   = "ALIGN_MAX"
      reducer   = "REDUCE_MAX"
      threshold = var.thresholds.oldest_event_s
      duration  = "300s"
      severity  = "WARNING"
      what      = "The function returns 503, or is too slow. Check Postgres, Redis and the function's log. No event is lost: Pub/Sub delivers again."
    }
    server_errors = {
      page      = "alerts-and-what-to-do"
      title     = "the function answers 5xx"
      filter    = "resource.type=\"cloud_run_revision\" AND resource.labels.service_name=\"${var.function_service}\" AND metric.type=\"run.googleapis.com/request_count\" AND metric.labels.response_code_class=\"5xx\""
      aligner   = "ALIGN_RATE"
      reducer   = "REDUCE_SUM"
      threshold = var.thresholds.errors_per_s
      duration  = "300s"
      severity  = "WARNING"
      what      = "503: Postgres or Redis is unavailable or full; the function's log has the cause (event_deferred)."
    }
  }

  measured_gallery = var.gallery_service == null ? {} : {
    gallery_errors = {
      page      = "alerts-and-what-to-do"
      title     = "the gallery answers 5xx"
      filter    = "resource.type=\"cloud_run_revision\" AND resource.labels.service_name=\"${var.gallery_service}\" AND metric.type=\"run.googleapis.com/request_count\" AND metric.labels.response_code_class=\"5xx\""
      aligner   = "ALIGN_RATE"
      reducer   = "REDUCE_SUM"
      threshold = var.thresholds.errors_per_s
      duration  = "300s"
      severity  = "WARNING"
      what      = "503: Postgres, Redis or Cloud Storage is unavailable; the gallery's log has the cause (request_not_served). 500 with a code: a right or a setting is missing. 504: an event stream that Cloud Run has cut after an hour may count."
    }
  }

  # An existing Redis or Postgres has alerts of its owner.
  measured_redis = var.redis_instance == null ? {} : {
    redis_memory = {
      page      = "alerts-and-what-to-do"
      title     = "Redis is nearly full"
      filter    = "resource.type=\"redis_instance\" AND resource.labels.instance_id=monitoring.regex.full_match(\".*/instances/${var.redis_instance}\") AND metric.type=\"redis.googleapis.com/stats/memory/usage_ratio\""
      aligner   = "ALIGN_MAX"
      reducer   = "REDUCE_MAX"
      threshold = 0.8
      duration  = "300s"
      severity  = "ERROR"
      what      = "At most 2,000 messages wait in the queue dropline.captions, so another program uses the memory. When Redis is full, the function returns 503 and Pub/Sub keeps the events."
    }
  }

  measured_postgres = var.database_instance == null ? {} : {
    database_disk = {
      page      = "alerts-and-what-to-do"
      title     = "the disk of Postgres is nearly full"
      filter    = "resource.type=\"cloudsql_database\" AND resource.labels.database_id=\"${var.project}:${var.database_instance}\" AND metric.type=\"cloudsql.googleapis.com/database/disk/utilization\""
      aligner   = "ALIGN_MAX"
      reducer   = "REDUCE_MAX"
      threshold = 0.9
      duration  = "300s"
      severity  = "ERROR"
      what      = "The disk normally grows automatically. Check the instance's quota and limits."
    }
  }
}
