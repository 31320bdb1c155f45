output "pool" {
  description = "Name of the worker pool."
  value       = google_cloud_run_v2_worker_pool.this.name
}

output "pool_path" {
  description = "The pool as the API names it; known before it is created."
  value       = "projects/${var.project}/locations/${var.region}/workerPools/${var.name}-worker"
}
