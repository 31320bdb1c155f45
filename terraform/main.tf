locals {
  labels = merge(var.labels, { app = "dropline" })

  buckets = length(var.buckets) > 0 ? var.buckets : [{
    name          = "${var.project}-${var.name}-drops"
    project       = null
    create        = true
    location      = null
    storage_class = "STANDARD"
    prefixes      = [""]
  }]

  # Spelt out rather than read from the data source, so that the first plan shows the member of each role.
  storage_agent = "serviceAccount:service-${local.project_number}@gs-project-accounts.iam.gserviceaccount.com"

  # Without the name prefix: all deployments in a project run the same images.
  registry = coalesce(var.registry, "${var.region}-docker.pkg.dev/${var.project}/dropline")
  image_references = merge(local.gallery_image, {
    function   = coalesce(var.images.function, "${local.registry}/function:${var.image_tag}")
    worker     = coalesce(var.images.worker, "${local.registry}/worker:${var.image_tag}")
    migrations = coalesce(var.images.migrations, "${local.registry}/migrations:${var.image_tag}")
  })
}

module "network" {
  source = "./modules/network"
  count  = var.network == null ? 1 : 0

  project = var.project
  region  = var.region
  name    = var.name
  labels  = local.labels
  cidr    = var.network_cidr

  depends_on = [time_sleep.services]
}

module "storage" {
  source = "./modules/storage"

  project             = var.project
  location            = var.region
  labels              = local.labels
  buckets             = local.buckets
  deletion_protection = var.deletion_protection

  depends_on = [time_sleep.services]
}

module "queue" {
  source = "./modules/queue"
  count  = var.redis.existing == null ? 1 : 0

  project             = var.project
  region              = var.region
  name                = var.name
  labels              = local.labels
  network             = local.network.network
  tier                = var.redis.tier
  memory_gb           = var.redis.memory_gb
  deletion_protection = var.deletion_protection
  readers             = local.redis_readers

  depends_on = [time_sleep.services]
}

module "database" {
  source = "./modules/database"

  project             = var.project
  region              = var.region
  name                = var.name
  labels              = local.labels
  network             = local.network.network
  subnetwork          = local.network.subnetwork
  existing            = local.existing_database
  migrations_image    = local.image.migrations
  readers             = var.database_readers
  editors             = var.database_editors
  gallery             = var.gallery == null ? null : { email = google_service_account.gallery[0].email, writes = local.gallery_writes }
  tier                = var.database.tier
  disk_gb             = var.database.disk_gb
  highly_available    = var.database.highly_available
  max_connections     = var.database.max_connections
  deletion_protection = var.deletion_protection
  suffix              = local.suffix
  logins = {
    ingest   = google_service_account.this["function"].email
    worker   = google_service_account.this["worker"].email
    migrator = google_service_account.this["migrator"].email
  }

  depends_on = [time_sleep.services]
}

module "function" {
  source = "./modules/function"

  project              = var.project
  region               = var.region
  name                 = var.name
  labels               = local.labels
  image                = local.image.function
  service_account      = google_service_account.this["function"].email
  push_service_account = google_service_account.this["push"].email
  wake                 = var.worker_scale_to_zero ? { service_account = google_service_account.this["wake"].email } : null
  network              = local.network.network
  subnetwork           = local.network.subnetwork
  database_url         = module.database.urls["ingest"]
  proxy                = module.database.proxy
  broker_url_secret    = local.redis.url_secret
  broker_certificate   = local.redis.certificate
  buckets              = local.buckets[*].name
  default_task         = var.default_task
  task_by_prefix       = var.task_by_prefix
  max_size_bytes       = var.max_size_bytes
  instances            = var.function_instances
  environment          = merge(var.environment, module.worker.pool_settings)

  depends_on = [time_sleep.services, time_sleep.redis_readers]
}

module "worker" {
  source = "./modules/worker"

  project            = var.project
  region             = var.region
  tasks_region       = var.tasks_region
  name               = var.name
  labels             = local.labels
  image              = local.image.worker
  service_account    = google_service_account.this["worker"].email
  network            = local.network.network
  subnetwork         = local.network.subnetwork
  database_url       = module.database.urls["worker"]
  proxy              = module.database.proxy
  broker_url_secret  = local.redis.url_secret
  broker_certificate = local.redis.certificate
  buckets            = module.storage.names
  buckets_elsewhere  = local.buckets_elsewhere
  accelerator        = var.worker.accelerator == "none" ? null : var.worker.accelerator
  cpu                = var.worker.cpu
  memory             = var.worker.memory
  instances          = var.worker.instances
  concurrency        = var.worker.concurrency
  checkpoint         = var.worker.checkpoint
  revision           = var.worker.revision
  max_size_bytes     = var.max_size_bytes
  environment        = var.environment
  suffix             = local.suffix
  sleep              = var.worker_scale_to_zero ? var.worker_sleep : null
  wake = var.worker_scale_to_zero ? {
    # Cloud Run's second address of the service, known before the service is: its settings have the address of itself.
    url             = "https://${var.name}-function-${local.project_number}.${var.region}.run.app/wake"
    service_account = google_service_account.this["wake"].email
    audience        = "${var.name}-push"
  } : null
  scalers = var.worker_scale_to_zero ? {
    function = google_service_account.this["function"].email
    worker   = google_service_account.this["worker"].email
  } : {}
  wakers = local.gallery_wakes

  depends_on = [time_sleep.services, time_sleep.redis_readers]
}

module "events" {
  source = "./modules/events"

  project                  = var.project
  pubsub_agent             = google_project_service_identity.this["pubsub.googleapis.com"].member
  name                     = var.name
  labels                   = local.labels
  storage_agent            = local.storage_agent
  storage_agents_elsewhere = { for project, agent in terraform_data.storage_agent_elsewhere : project => agent.output }
  push_endpoint            = module.function.push_endpoint
  push_service_account     = google_service_account.this["push"].email
  push_audience            = module.function.push_audience
  retry                    = var.retry
  sources = flatten([
    for bucket in local.buckets : [for prefix in bucket.prefixes : { bucket = bucket.name, prefix = prefix }]
  ])

  # A notification needs an existing bucket, and a role binding needs an existing Cloud Storage service agent.
  depends_on = [time_sleep.services, module.storage, data.google_storage_project_service_account.this]
}

module "observability" {
  source = "./modules/observability"

  project                  = var.project
  project_number           = local.project_number
  name                     = var.name
  labels                   = local.labels
  emails                   = var.alert_emails
  docs_url                 = var.docs_url
  push_subscription        = module.events.push_subscription
  dead_letter_subscription = module.events.dead_letter_subscription
  function_service         = module.function.service
  gallery_service          = one(module.gallery[*].service)
  worker_pool              = module.worker.pool
  pool_idle_s              = var.worker_scale_to_zero ? var.worker_sleep.idle_s : null
  redis_instance           = one(module.queue[*].instance)
  database_instance        = module.database.instance
  thresholds               = var.alert_thresholds
  budget                   = var.budget

  depends_on = [time_sleep.services]
}
