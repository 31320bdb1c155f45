# Cloud Storage → topic → authenticated push → function; events over the limit of delivery attempts → dead letters.
resource "google_pubsub_topic" "objects" {
  project = var.project
  name    = "${var.name}-objects"
  labels  = var.labels

  # Long enough to replay the events of a weekend.
  message_retention_duration = "604800s"
}

resource "google_pubsub_topic" "dead_letters" {
  project = var.project
  name    = "${var.name}-dead-letters"
  labels  = var.labels
}

# A topic without a subscription discards messages, so the dead-letter topic needs a subscription.
resource "google_pubsub_subscription" "dead_letters" {
  project                    = var.project
  name                       = "${var.name}-dead-letters"
  topic                      = google_pubsub_topic.dead_letters.id
  labels                     = var.labels
  ack_deadline_seconds       = var.ack_deadline_s
  message_retention_duration = "2678400s"
  retain_acked_messages      = false

  # Applies when dead letters are pushed to the function again.
  retry_policy {
    minimum_backoff = "${var.retry.minimum_backoff_s}s"
    maximum_backoff = "${var.retry.maximum_backoff_s}s"
  }

  # By default Pub/Sub deletes a subscription, with all messages, after 31 days without a reader.
  expiration_policy {
    ttl = ""
  }
}

resource "google_pubsub_subscription" "push" {
  project                    = var.project
  name                       = "${var.name}-push"
  topic                      = google_pubsub_topic.objects.id
  labels                     = var.labels
  ack_deadline_seconds       = var.ack_deadline_s
  message_retention_duration = "604800s"

  push_config {
    push_endpoint = var.push_endpoint

    oidc_token {
      service_account_email = var.push_service_account
      audience              = var.push_audience
    }
  }

  retry_policy {
    minimum_backoff = "${var.retry.minimum_backoff_s}s"
    maximum_backoff = "${var.retry.maximum_backoff_s}s"
  }

  dead_letter_policy {
    dead_letter_topic     = google_pubsub_topic.dead_letters.id
    max_delivery_attempts = var.retry.max_delivery_attempts
  }

  expiration_policy {
    ttl = ""
  }

  # Without the right to sign tokens a push fails; without the right to forward dead letters Pub/Sub loses dead letters.
  depends_on = [
    google_service_account_iam_member.pubsub_signs_push_tokens,
    google_pubsub_topic_iam_member.pubsub_publishes_dead_letters,
    google_pubsub_subscription.dead_letters,
  ]
}

# Without metadata updates: each write-back would otherwise cause another event.
resource "google_storage_notification" "this" {
  for_each = { for source in var.sources : "${source.bucket}/${source.prefix}" => source }

  bucket             = each.value.bucket
  topic              = google_pubsub_topic.objects.id
  payload_format     = "JSON_API_V1"
  event_types        = ["OBJECT_FINALIZE", "OBJECT_DELETE", "OBJECT_ARCHIVE"]
  object_name_prefix = each.value.prefix == "" ? null : each.value.prefix

  # Cloud Storage checks the right to publish when a notification is created. A topic without a subscription would discard
  # the events.
  depends_on = [
    time_sleep.storage_publishes,
    google_pubsub_subscription_iam_member.pubsub_acknowledges_dead_letters,
  ]
}
