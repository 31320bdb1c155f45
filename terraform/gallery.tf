# The gallery, which is off by default. Its account, like those of the other processes, is made here.
locals {
  gallery_image  = var.gallery == null ? {} : { gallery = coalesce(var.images.gallery, "${local.registry}/gallery:${var.image_tag}") }
  gallery_writes = var.gallery != null && length(setintersection(try(var.gallery.scopes, []), ["submit", "edit"])) > 0

  # An upload outside of the announced prefixes would have no event.
  announced     = local.buckets[0].prefixes
  submit_prefix = anytrue([for prefix in local.announced : startswith("submitted/", prefix)]) ? null : "${trimsuffix(local.announced[0], "/")}/submitted/"

  # Who submits or edits has the function wake the workers.
  gallery_wakes = local.gallery_writes && var.worker_scale_to_zero ? { gallery = google_service_account.gallery[0].email } : {}
}

resource "google_service_account" "gallery" {
  count = var.gallery == null ? 0 : 1

  project      = var.project
  account_id   = "${var.name}-gallery"
  display_name = "Dropline: gallery"
  description  = "Gallery: shows captions and objects. With uploads or edits, and scale to zero, it can have the function wake the workers."

  depends_on = [time_sleep.services]
}

module "gallery" {
  source = "./modules/gallery"
  count  = var.gallery == null ? 0 : 1

  project            = var.project
  project_number     = local.project_number
  region             = var.region
  name               = var.name
  labels             = local.labels
  image              = local.image.gallery
  service_account    = google_service_account.gallery[0].email
  members            = var.gallery.members
  tokens             = var.gallery.tokens
  scopes             = var.gallery.scopes
  network            = local.network.network
  subnetwork         = local.network.subnetwork
  database_url       = module.database.gallery_url
  proxy              = module.database.proxy
  broker_url_secret  = local.gallery_writes ? local.redis.url_secret : null
  broker_certificate = local.gallery_writes ? local.redis.certificate : null
  buckets            = local.buckets[*].name
  buckets_elsewhere  = local.buckets_elsewhere
  submit_prefix      = local.submit_prefix
  default_task       = var.default_task
  task_by_prefix     = var.task_by_prefix
  max_size_bytes     = var.max_size_bytes
  instances          = var.gallery.instances
  memory             = var.gallery.memory
  suffix             = local.suffix
  environment        = merge(var.environment, local.gallery_writes ? module.worker.wake_settings : {})

  depends_on = [google_project_service_identity.this, module.storage, time_sleep.redis_readers]
}
