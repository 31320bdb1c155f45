locals {
  port     = 8080
  audience = "${var.name}-push"

  environment = merge(var.environment, {
    GOOGLE_CLOUD_PROJECT            = var.project
    DROPLINE_DATABASE__URL          = var.database_url
    DROPLINE_EVENTS__BUCKETS        = jsonencode(sort(var.buckets))
    DROPLINE_EVENTS__DEFAULT_TASK   = var.default_task
    DROPLINE_EVENTS__TASK_BY_PREFIX = jsonencode(var.task_by_prefix)
    DROPLINE_EVENTS__MAX_SIZE_BYTES = tostring(var.max_size_bytes)
    DROPLINE_PUSH__AUDIENCE         = local.audience
    DROPLINE_PUSH__SERVICE_ACCOUNT  = var.push_service_account
    # Cloud Run verifies the token, and removes its signature before it forwards the request.
    DROPLINE_PUSH__BEHIND_CLOUD_RUN = "true"
    }, var.wake == null ? {} : {
    DROPLINE_PUSH__WAKE_SERVICE_ACCOUNT = var.wake.service_account
  })
}

# Accepts events. Cloud Run demands a token of every caller, on which DROPLINE_PUSH__BEHIND_CLOUD_RUN relies. `redrive.tf` has the job
# for failed rows, with the same environment.
resource "google_cloud_run_v2_service" "this" {
  project              = var.project
  name                 = "${var.name}-function"
  location             = var.region
  labels               = var.labels
  ingress              = "INGRESS_TRAFFIC_INTERNAL_ONLY"
  invoker_iam_disabled = false
  deletion_protection  = false

  # A fixed text, known before the URL of the service, so that function and subscription can use the same audience.
  custom_audiences = [local.audience]

  template {
    service_account                  = var.service_account
    max_instance_request_concurrency = 80
    timeout                          = "30s"
    execution_environment            = "EXECUTION_ENVIRONMENT_GEN2"
    labels                           = var.labels

    scaling {
      min_instance_count = var.instances.min
      max_instance_count = var.instances.max
    }

    containers {
      name       = "function"
      image      = var.image
      depends_on = ["cloud-sql-proxy"]

      ports {
        container_port = local.port
      }

      resources {
        limits = {
          cpu    = var.cpu
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

      env {
        name = "DROPLINE_BROKER__URL"
        value_source {
          secret_key_ref {
            secret  = var.broker_url_secret
            version = "latest"
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

      # A new instance may be without its network for a minute or more (Direct VPC egress). The answer is 200 once Postgres has
      # answered, and in any case 90 seconds after the start of the process, so that an outage stops no deployment.
      startup_probe {
        period_seconds    = 3
        timeout_seconds   = 2
        failure_threshold = 60
        http_get {
          path = "/started"
          port = local.port
        }
      }

      # A process without a response for three minutes is restarted. Each probe is billed, so once a minute; the long timeout
      # is for a probe that waits for a thread under full load.
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
}

# The accounts of Pub/Sub and Cloud Tasks alone may invoke the function: neither allUsers nor a person may.
resource "google_cloud_run_v2_service_iam_member" "push" {
  project  = var.project
  location = google_cloud_run_v2_service.this.location
  name     = google_cloud_run_v2_service.this.name
  role     = "roles/run.invoker"
  member   = "serviceAccount:${var.push_service_account}"
}

resource "google_cloud_run_v2_service_iam_member" "wake" {
  count = var.wake == null ? 0 : 1

  project  = var.project
  location = google_cloud_run_v2_service.this.location
  name     = google_cloud_run_v2_service.this.name
  role     = "roles/run.invoker"
  member   = "serviceAccount:${var.wake.service_account}"
}
