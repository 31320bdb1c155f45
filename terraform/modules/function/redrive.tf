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
        name       = "redrive"
        image      = var.image
        command    = ["sh", "-c", templatefile("${path.module}/redrive.sh.tftpl", { stop_url = var.proxy.stop.url }), "redrive"]
        depends_on = ["cloud-sql-proxy"]

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
            memory = var.memory
          }
        }
      }

      containers {
        name  = "cloud-sql-proxy"
        image = var.proxy.image
        args  = concat(var.proxy.args, var.proxy.stop.args)

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
  }
}
