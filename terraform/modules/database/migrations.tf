# The migrations run inside the apply, before anything that needs their tables.
resource "google_cloud_run_v2_job" "migrations" {
  project             = var.project
  name                = "${var.name}-migrations"
  location            = var.region
  labels              = var.labels
  deletion_protection = false

  # Another image, or another login, is another execution; the apply waits for its end.
  run_execution_token = substr(sha256(jsonencode([var.migrations_image, local.deploy])), 0, 8)

  template {
    template {
      service_account = var.logins["migrator"]
      timeout         = "1200s"
      max_retries     = 1

      containers {
        name       = "migrations"
        image      = var.migrations_image
        command    = local.deploy
        depends_on = ["cloud-sql-proxy"]

        env {
          name  = "DROPLINE_DATABASE__URL"
          value = local.urls["migrator"]
        }

        resources {
          limits = {
            cpu    = "1"
            memory = "512Mi"
          }
        }
      }

      containers {
        name  = "cloud-sql-proxy"
        image = var.proxy_image
        args  = concat(local.proxy_arguments, ["--quitquitquit", "--admin-port=${local.admin_port}"])

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
            port = local.health_port
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

  depends_on = [google_sql_database.this, google_sql_user.service, google_sql_user.reader, google_project_iam_member.login]
}

locals {
  port        = 5432
  health_port = 9801
  admin_port  = 9091

  # The proxy brings the identity of its container: it encrypts, and logs in without a password.
  proxy_arguments = [
    "--private-ip",
    "--auto-iam-authn",
    "--structured-logs",
    "--port=${local.port}",
    "--health-check",
    "--http-address=0.0.0.0",
    "--http-port=${local.health_port}",
    google_sql_database_instance.this.connection_name,
  ]

  urls = {
    for role, login in local.login : role => join("", [
      "postgresql://${urlencode(login)}@127.0.0.1:${local.port}/${local.database}?sslmode=disable",
      # What the migrations make belongs to a role, not to the login that happened to run them.
      role == "migrator" ? "&options=-crole%3Dcloudsqlsuperuser" : "",
    ])
  }

  # The job ends when all of its containers have, so the proxy is told to.
  deploy = concat(
    ["python", "-m", "migrations.deploy"],
    [for role, login in local.login : "--grant=dropline_${role}=${login}" if role != "migrator"],
    [for email in sort(var.readers) : "--grant=dropline_reader=${trimsuffix(email, ".gserviceaccount.com")}"],
    ["--afterwards=http://127.0.0.1:${local.admin_port}/quitquitquit"],
  )
}
