locals {
  # Mount path of the certificate in every container with a connection to Redis.
  ca_directory = "/etc/dropline/redis"
  ca_file      = "ca.pem"

  # Memorystore creates a certificate authority per instance, so trust in this authority alone identifies the instance. The
  # certificates have no host name, so the host name check is off.
  query = join("&", [
    "ssl_cert_reqs=required",
    "ssl_ca_certs=${local.ca_directory}/${local.ca_file}",
    "ssl_check_hostname=false",
  ])
  url = "rediss://:${google_redis_instance.this.auth_string}@${google_redis_instance.this.host}:${google_redis_instance.this.port}/0?${local.query}"
}

resource "google_redis_instance" "this" {
  project        = var.project
  name           = var.name
  region         = var.region
  display_name   = "Dropline's queue"
  tier           = var.tier
  memory_size_gb = var.memory_gb
  redis_version  = "REDIS_7_2"
  labels         = var.labels

  authorized_network      = var.network
  connect_mode            = "PRIVATE_SERVICE_ACCESS"
  auth_enabled            = true
  transit_encryption_mode = "SERVER_AUTHENTICATION"
  deletion_protection     = var.deletion_protection

  # Any other policy may evict the queue. With noeviction a full Redis refuses writes, and Pub/Sub delivers the event again.
  redis_configs = {
    "maxmemory-policy" = "noeviction"
  }

  maintenance_policy {
    weekly_maintenance_window {
      day = "SUNDAY"
      start_time {
        hours   = 4
        minutes = 0
        seconds = 0
        nanos   = 0
      }
    }
  }
}
