locals {
  gpu         = var.accelerator != null
  health_port = 8080

  limits = merge(
    { cpu = var.cpu, memory = var.memory },
    local.gpu ? { "nvidia.com/gpu" = "1" } : {},
  )

  # With scale to zero, the worker pool starts with zero instances: the first event scales the worker pool up.
  first_instances = var.sleep == null ? var.instances : 0

  # Scale to zero: the function (scales up) and the worker (scales to zero) need the same settings.
  pool_path = "projects/${var.project}/locations/${var.region}/workerPools/${var.name}-worker"
  pool_settings = var.sleep == null ? {} : {
    DROPLINE_POOL__NAME      = local.pool_path
    DROPLINE_POOL__INSTANCES = tostring(var.instances)
    DROPLINE_POOL__IDLE_S    = tostring(var.sleep.idle_s)
    DROPLINE_POOL__LEASE_S   = tostring(var.sleep.lease_s)
    DROPLINE_POOL__AWAKE_S   = tostring(var.sleep.awake_s)
    DROPLINE_POOL__CHECK_S   = tostring(var.sleep.check_s)
  }

  # The calls of Cloud Tasks, also for processes that have no right on the worker pool.
  wake_settings = var.sleep == null ? {} : {
    DROPLINE_POOL__WAKE_QUEUE           = local.queue_path
    DROPLINE_POOL__WAKE_URL             = var.wake.url
    DROPLINE_POOL__WAKE_SERVICE_ACCOUNT = var.wake.service_account
    DROPLINE_POOL__WAKE_AUDIENCE        = var.wake.audience
  }

  # Cloud Run kills a container 10 seconds after SIGTERM. A stopping worker waits for the answer to its BRPOP, and Memorystore does
  # not list CLIENT UNBLOCK, which would end the BRPOP at once. After 5 seconds the worker hangs up, and a message that Redis is just
  # sending would be lost. With 4 seconds Redis ends the BRPOP before; an idle worker sends 15 commands a minute.
  stop_settings = {
    DROPLINE_BROKER__POLLING_INTERVAL_S = "4"
  }

  environment = merge(
    # Whether the container sees its own limit, and not that of the instance with the proxy, was not found.
    { DROPLINE_WORKER__MEMORY_BYTES = tostring(tonumber(trimsuffix(var.memory, "Gi")) * 1024 * 1024 * 1024) },
    local.stop_settings,
    var.environment,
    local.pool_settings,
    local.wake_settings,
    {
      GOOGLE_CLOUD_PROJECT            = var.project
      DROPLINE_DATABASE__URL          = var.database_url
      DROPLINE_EVENTS__MAX_SIZE_BYTES = tostring(var.max_size_bytes)
      DROPLINE_WORKER__CONCURRENCY    = tostring(var.concurrency)
      DROPLINE_WORKER__HEALTH_PORT    = tostring(local.health_port)
      DROPLINE_ENGINE__DEVICE         = local.gpu ? "cuda" : "cpu"
    },
    var.checkpoint == null ? {} : { DROPLINE_ENGINE__CHECKPOINT = var.checkpoint },
    var.revision == null ? {} : { DROPLINE_ENGINE__REVISION = var.revision },
  )
}

# The function and the worker change the number of instances in place, so Terraform ignores `scaling` (see below). A change
# of the variable therefore replaces the worker pool; the new worker pool continues with the images in flight.
resource "terraform_data" "instances" {
  input = local.first_instances
}

resource "google_cloud_run_v2_worker_pool" "this" {
  project             = var.project
  name                = "${var.name}-worker"
  location            = var.region
  labels              = var.labels
  deletion_protection = false

  # Worker pools have no autoscaling, only a number of instances.
  scaling {
    manual_instance_count = local.first_instances
  }

  template {
    service_account               = var.service_account
    gpu_zonal_redundancy_disabled = local.gpu ? true : null
    labels                        = var.labels

    dynamic "node_selector" {
      for_each = local.gpu ? [var.accelerator] : []
      content {
        accelerator = node_selector.value
      }
    }

    containers {
      name       = "worker"
      image      = var.image
      depends_on = ["cloud-sql-proxy"]

      resources {
        limits = local.limits
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

      # The port is open before the model is loaded: Cloud Run allows a start of 240 seconds, and a model may take longer.
      startup_probe {
        period_seconds    = 5
        timeout_seconds   = 5
        failure_threshold = 24
        http_get {
          path = "/healthz"
          port = local.health_port
        }
      }

      # 503 only if the engine has not greeted for longer than its start may take (DROPLINE_ENGINE__START_TIMEOUT_S).
      liveness_probe {
        period_seconds    = 60
        timeout_seconds   = 15
        failure_threshold = 3
        http_get {
          path = "/healthz"
          port = local.health_port
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
          memory = "512Mi"
        }
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

  lifecycle {
    # The function and the worker also change the number of instances; an apply must not undo such a change.
    ignore_changes       = [scaling]
    replace_triggered_by = [terraform_data.instances]
  }

  depends_on = [time_sleep.captioner]
}
