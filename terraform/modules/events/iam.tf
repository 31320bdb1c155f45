resource "google_pubsub_topic_iam_member" "storage_publishes" {
  project = var.project
  topic   = google_pubsub_topic.objects.name
  role    = "roles/pubsub.publisher"
  member  = var.storage_agent
}

# Cloud Storage publishes events as the service agent of the bucket's project.
resource "google_pubsub_topic_iam_member" "storage_publishes_elsewhere" {
  for_each = var.storage_agents_elsewhere

  project = var.project
  topic   = google_pubsub_topic.objects.name
  role    = "roles/pubsub.publisher"
  member  = each.value
}

resource "google_pubsub_topic_iam_member" "pubsub_publishes_dead_letters" {
  project = var.project
  topic   = google_pubsub_topic.dead_letters.name
  role    = "roles/pubsub.publisher"
  member  = var.pubsub_agent
}

# To forward a dead letter, Pub/Sub must acknowledge the message on the source subscription.
resource "google_pubsub_subscription_iam_member" "pubsub_acknowledges_dead_letters" {
  project      = var.project
  subscription = google_pubsub_subscription.push.name
  role         = "roles/pubsub.subscriber"
  member       = var.pubsub_agent
}

# Service agents of projects from before April 2021 do not have this right by default.
resource "google_service_account_iam_member" "pubsub_signs_push_tokens" {
  service_account_id = "projects/${var.project}/serviceAccounts/${var.push_service_account}"
  role               = "roles/iam.serviceAccountOpenIdTokenCreator"
  member             = var.pubsub_agent
}

# A role is in effect everywhere only after minutes, and a notification without the right to publish is refused.
resource "time_sleep" "storage_publishes" {
  create_duration = "120s"
  triggers = {
    of = "publishers"
    roles = join(" ", concat(
      [google_pubsub_topic_iam_member.storage_publishes.id],
      [for each in google_pubsub_topic_iam_member.storage_publishes_elsewhere : each.id],
    ))
  }
}
