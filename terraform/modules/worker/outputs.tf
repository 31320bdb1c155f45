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
  value       = local.pool_settings
}
