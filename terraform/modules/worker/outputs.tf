output "pool" {
  description = "Name of the worker pool."
  value       = google_cloud_run_v2_worker_pool.this.name
}

output "pool_path" {
  description = "The pool as the API names it; known before it is created."
  value       = local.pool_path
}

output "pool_settings" {
  description = "Settings of whoever wakes the pool, DROPLINE_POOL__…; empty where it never sleeps. Known before the pool is created."
  value       = local.pool_settings
}
