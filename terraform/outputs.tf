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
  description = "Deployed container images, by digest; all must be in the registry before the first plan."
  value       = local.image
}

output "function_service" {
  description = "Name of the function's Cloud Run service."
  value       = module.function.service
}

output "gallery_url" {
  description = "Address of the gallery; null without a gallery."
  value       = one(module.gallery[*].url)
}

output "worker_pool" {
  description = "Name of the worker pool."
  value       = module.worker.pool
}

output "wake_queue" {
  description = "Queue of Cloud Tasks, as `projects/P/locations/L/queues/Q`: its region need not be that of the worker pool. null without scale to zero."
  value       = module.worker.wake_queue
}

output "jobs" {
  description = "Names of the Cloud Run jobs. Terraform runs `migrations` during an apply that changes the job; `redrive` is run by hand."
  value = {
    migrations = module.database.migrations_job
    redrive    = module.function.redrive_job
  }
}

output "room" {
  description = "Values for a further service, for example a web page: network, subnetwork, sidecar proxy, and the Postgres URL by name in `database_readers`."
  value = {
    network       = local.network.network
    subnetwork    = local.network.subnetwork
    proxy         = module.database.proxy
    database_urls = module.database.reader_urls
  }
}

output "database_connection_name" {
  description = "Connection name of Postgres, for a reader's `cloud-sql-proxy --auto-iam-authn` inside the network."
  value       = module.database.connection_name
}

output "dead_letter_subscription" {
  description = "Name of the subscription with the dead letters."
  value       = module.events.dead_letter_subscription
}

output "push_dead_letters" {
  description = "Command that pushes the dead letters to the function again. Afterwards run the command with an empty `--push-endpoint=`, so that the subscription keeps new dead letters."
  value = join(" ", [
    "gcloud pubsub subscriptions modify-push-config ${module.events.dead_letter_subscription}",
    "--project=${var.project}",
    "--push-endpoint=${module.function.push_endpoint}",
    "--push-auth-service-account=${google_service_account.this["push"].email}",
    "--push-auth-token-audience=${module.function.push_audience}",
  ])
}

output "service_accounts" {
  description = "E-mail addresses of the service accounts, by process."
  value = merge(
    { for process, account in google_service_account.this : process => account.email },
    { for account in google_service_account.gallery : "gallery" => account.email },
  )
}
