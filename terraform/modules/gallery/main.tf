locals {
  # An upload needs a name that the bucket announces.
  submit_prefix = var.submit_prefix == null ? {} : { DROPLINE_SUBMIT__PREFIX = var.submit_prefix }

  port     = 8080
  has_iap  = length(var.members) > 0
  may_edit = contains(var.scopes, "edit")
  writes   = local.may_edit || contains(var.scopes, "submit")

  # Cloud Run's signed header names the service by the number of its project.
  iap_audience = "/projects/${var.project_number}/locations/${var.region}/services/${var.name}-gallery"

  environment = merge(local.submit_prefix, var.environment, {
    GOOGLE_CLOUD_PROJECT            = var.project
    DATABASE_URL                    = var.database_url
    DROPLINE_GALLERY__DATABASE_URL  = var.database_url
    DROPLINE_BUCKET                 = var.buckets[0]
    DROPLINE_EVENTS__BUCKETS        = jsonencode(sort(var.buckets))
    DROPLINE_EVENTS__MAX_SIZE_BYTES = tostring(var.max_size_bytes)
    DROPLINE_EVENTS__DEFAULT_TASK   = var.default_task
    DROPLINE_EVENTS__TASK_BY_PREFIX = jsonencode(var.task_by_prefix)
    DROPLINE_GALLERY__HOST          = "0.0.0.0"
    DROPLINE_GALLERY__PORT          = tostring(local.port)
    # The disk of an instance is its memory.
    DROPLINE_GALLERY__CACHE_BYTES = "268435456"
    }, local.has_iap ? {
    DROPLINE_GALLERY__IAP_AUDIENCE = local.iap_audience
    DROPLINE_GALLERY__IAP_SCOPES   = jsonencode(sort(var.scopes))
  } : {})
}

# Page, JSON API and events. A request has passed Identity-Aware Proxy, or has a token of the gallery's own.
resource "google_cloud_run_v2_service" "gallery" {
  project             = var.project
  name                = "${var.name}-gallery"
  location            = var.region
  labels              = var.labels
  ingress             = "INGRESS_TRAFFIC_ALL"
  iap_enabled         = local.has_iap
  deletion_protection = false

  # With tokens of its own, the gallery checks each request: a browser has no token of Cloud Run.
  invoker_iam_disabled = !local.has_iap

  template {
    service_account                  = var.service_account
    max_instance_request_concurrency = 1000
    execution_environment            = "EXECUTION_ENVIRONMENT_GEN2"
    labels                           = var.labels

    # An event stream is a request that does not end. Cloud Run cuts it after an hour; the browser then connects again, and
    # gets what it missed.
    timeout = "3600s"

    scaling {
      min_instance_count = var.instances.min
      max_instance_count = var.instances.max
    }

    containers {
      name       = "gallery"
      image      = var.image
      depends_on = ["cloud-sql-proxy"]

      ports {
        container_port = local.port
      }

      resources {
        limits = {
          cpu    = "1"
          memory = var.memory
        }
        cpu_idle          = true
        startup_cpu_boost = true
      }

      dynamic "env" {
        for_each = local.environment
        content {
          name  = env.key
          value = env.value
        }
      }

      dynamic "env" {
        for_each = var.broker_url_secret[*]
        content {
          name = "DROPLINE_BROKER__URL"
          value_source {
            secret_key_ref {
              secret  = env.value
              version = "latest"
            }
          }
        }
      }

      dynamic "env" {
        for_each = google_secret_manager_secret.tokens
        content {
          name = "DROPLINE_GALLERY__TOKENS"
          value_source {
            secret_key_ref {
              secret  = env.value.secret_id
              version = google_secret_manager_secret_version.tokens[0].version
            }
          }
        }
      }

      dynamic "volume_mounts" {
        for_each = var.broker_certificate[*]
        content {
          name       = "redis-certificate"
          mount_path = volume_mounts.value.directory
        }
      }

      # As for the function: 200 once Postgres has answered, and after 90 seconds in any case.
      startup_probe {
        period_seconds    = 3
        timeout_seconds   = 2
        failure_threshold = 60
        http_get {
          path = "/started"
          port = local.port
        }
      }

      # As for the function: each probe is billed, so once a minute.
      liveness_probe {
        period_seconds    = 60
        timeout_seconds   = 10
        failure_threshold = 3
        http_get {
          path = "/healthz"
          port = local.port
        }
      }
    }

    containers {
      name  = "cloud-sql-proxy"
      image = var.proxy.image
      args  = var.proxy.args

      resources {
        limits = {
          cpu    = "1"
          memory = "256Mi"
        }
        cpu_idle = true
      }

      startup_probe {
        period_seconds    = 2
        failure_threshold = 60
        http_get {
          path = "/startup"
          port = var.proxy.health_port
        }
      }
    }

    dynamic "volumes" {
      for_each = var.broker_certificate[*]
      content {
        name = "redis-certificate"
        secret {
          secret = volumes.value.secret
          items {
            path    = volumes.value.file
            version = "latest"
          }
        }
      }
    }

    vpc_access {
      egress = "PRIVATE_RANGES_ONLY"
      network_interfaces {
        network    = var.network
        subnetwork = var.subnetwork
      }
    }
  }

  depends_on = [google_storage_bucket_iam_member.gallery, google_storage_bucket_iam_member.uploads, time_sleep.tokens]
}
