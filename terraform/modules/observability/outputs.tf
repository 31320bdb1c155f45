output "alerts" {
  description = "Display names of the alerts, by alert key."
  value       = { for key, alert in google_monitoring_alert_policy.this : key => alert.display_name }
}
