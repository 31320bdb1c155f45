output "alerts" {
  description = "Display names of the alerts, by what they watch."
  value = merge(
    { for key, alert in google_monitoring_alert_policy.this : key => alert.display_name },
    { captions_failed = google_monitoring_alert_policy.captions_failed.display_name },
  )
}
