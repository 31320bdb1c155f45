output "buckets" {
  description = "Buckets to drop images into."
  value       = sort(module.storage.names)
}

output "try_it" {
  description = "Commands that drop an image and show its caption."
  value = join("\n", [
    "gcloud storage cp photo.jpg gs://${local.buckets[0].name}/${local.buckets[0].prefixes[0]}",
    "gcloud storage objects describe gs://${local.buckets[0].name}/${local.buckets[0].prefixes[0]}photo.jpg --format='value(custom_fields.caption)'",
  ])
}

output "images" {
  description = "Container images that are run; push them before the first apply."
  value       = local.image
}

output "function_service" {
  description = "Name of the function's Cloud Run service."
  value       = module.function.service
}

output "worker_pool" {
  description = "Name of the worker pool."
  value       = module.worker.pool
}

output "database_connection_name" {
  description = "Connection name of Postgres: readers reach it with `cloud-sql-proxy --auto-iam-authn` from the network."
  value       = module.database.connection_name
}

output "dead_letter_subscription" {
  description = "Subscription that keeps the dead letters."
  value       = module.events.dead_letter_subscription
}

output "service_accounts" {
  description = "E-mails of the service accounts, by process."
  value       = { for process, account in google_service_account.this : process => account.email }
}
