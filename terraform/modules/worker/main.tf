locals {
  gpu = var.accelerator != null

  limits = merge(
    { cpu = var.cpu, memory = var.memory },
    local.gpu ? { "nvidia.com/gpu" = "1" } : {},
  )

  # A pool that sleeps begins asleep: the first event wakes it.
  first_instances = var.sleep == null ? var.instances : 0

  # Where the pool sleeps, whoever wakes it and whoever puts it to sleep must be told the same.
  pool_path = "projects/${var.project}/locations/${var.region}/workerPools/${var.name}-worker"
  pool_settings = var.sleep == null ? {} : {
    DROPLINE_POOL__NAME      = local.pool_path
    DROPLINE_POOL__INSTANCES = tostring(var.instances)
    DROPLINE_POOL__IDLE_S    = tostring(var.sleep.idle_s)
    DROPLINE_POOL__LEASE_S   = tostring(var.sleep.lease_s)
    DROPLINE_POOL__AWAKE_S   = tostring(var.sleep.awake_s)
  }

  environment = merge(
    var.environment,
    local.pool_settings,
    {
      GOOGLE_CLOUD_PROJECT            = var.project
      DROPLINE_DATABASE__URL          = var.database_url
      DROPLINE_EVENTS__MAX_SIZE_BYTES = tostring(var.max_size_bytes)
      DROPLINE_WORKER__CONCURRENCY    = tostring(var.concurrency)
      DROPLINE_ENGINE__DEVICE         = local.gpu ? "cuda" : "cpu"
    },
    var.checkpoint == null ? {} : { DROPLINE_ENGINE__CHECKPOINT = var.checkpoint },
    var.revision == null ? {} : { DROPLINE_ENGINE__REVISION = var.revision },
  )
}

# A pool's number of instances is changed in place by others than Terraform, see `scaling` below. A change of the variable
# makes the pool anew; what was in flight is done by the new one.
resource "terraform_data" "instances" {
  input = local.first_instances
}

resource "google_cloud_run_v2_worker_pool" "this" {
  project             = var.project
  name                = "${var.name}-worker"
  location            = var.region
  labels              = var.labels
  deletion_protection = false

  # Worker pools know no other mode than a number.
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

      volume_mounts {
        name       = "redis-certificate"
        mount_path = var.broker_certificate.directory
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

    volumes {
      name = "redis-certificate"
      secret {
        secret = var.broker_certificate.secret
        items {
          path    = var.broker_certificate.file
          version = "latest"
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
    # The number of instances is also changed from outside, without a redeploy; an apply must not undo that.
    ignore_changes       = [scaling]
    replace_triggered_by = [terraform_data.instances]
  }

  # Without its rights a worker would put images aside that it could have read a moment later.
  depends_on = [google_storage_bucket_iam_member.captioner]
}
