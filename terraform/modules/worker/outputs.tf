output "pool" {
  description = "Name of the worker pool."
  value       = google_cloud_run_v2_worker_pool.this.name
}

output "pool_path" {
  description = "Full resource name of the worker pool, as in the Cloud Run API; known before the apply."
  value       = local.pool_path
}

output "pool_settings" {
  description = "Scale-to-zero settings for the function, DROPLINE_POOL__…; empty without scale to zero. Known before the apply."
  value       = merge(local.pool_settings, local.wake_settings)
}

output "wake_settings" {
  description = "Settings for a process that has the function wake the worker pool, DROPLINE_POOL__WAKE_…; empty without scale to zero."
  value       = local.wake_settings
}

output "wake_queue" {
  description = "Full resource name of the queue of Cloud Tasks; null without scale to zero."
  value       = length(var.scalers) > 0 ? local.queue_path : null
}
