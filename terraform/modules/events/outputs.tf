output "topic" {
  description = "Id of the topic that Cloud Storage publishes to."
  value       = google_pubsub_topic.objects.id
}

output "push_subscription" {
  description = "Name of the push subscription."
  value       = google_pubsub_subscription.push.name
}

output "dead_letter_subscription" {
  description = "Name of the subscription that keeps the dead letters."
  value       = google_pubsub_subscription.dead_letters.name
}
