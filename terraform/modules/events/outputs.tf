output "topic" {
  description = "Id of the topic with the events of Cloud Storage."
  value       = google_pubsub_topic.objects.id
}

output "push_subscription" {
  description = "Name of the push subscription."
  value       = google_pubsub_subscription.push.name
}

output "dead_letter_subscription" {
  description = "Name of the subscription with the dead letters."
  value       = google_pubsub_subscription.dead_letters.name
}
