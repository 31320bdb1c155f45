# Redrive, started by hand: queues failed images again. The job has the image, account and environment of the function.
resource "google_cloud_run_v2_job" "redrive" {
  project             = var.project
  name                = "${var.name}-redrive"
  location            = var.region
  labels              = var.labels
  deletion_protection = false

  template {
    template {
      service_account = var.service_account
      timeout         = "3600s"

      # Without retries: rows that were not redriven stay failed, and a second run is started by hand.
      max_retries = 0

      containers {
        name    = "redrive"
        image   = var.image
        command = concat(var.proxy.job_command, ["dropline", "redrive"])

        # The default only counts failed images; --args replaces these arguments.
        args = ["--all", "--dry-run"]

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

        resources {
          limits = {
            cpu    = var.cpu
            memory = "1Gi"
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
}
