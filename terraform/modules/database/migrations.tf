# All inputs of the job. A change replaces the job, and so runs the migrations: an update in place could send an execution
# token that Cloud Run has seen before. A job with a failed first execution is replaced by the next apply in any case.
resource "terraform_data" "migrations" {
  input = {
    image      = var.migrations_image
    command    = concat(local.proxy_command, local.deploy)
    url        = local.urls["migrator"]
    account    = var.logins["migrator"]
    labels     = var.labels
    subnetwork = var.subnetwork
  }
}

# The migrations run during the apply, before the function and the worker, which need the tables.
resource "google_cloud_run_v2_job" "migrations" {
  project             = var.project
  name                = "${var.name}-migrations"
  location            = var.region
  labels              = var.labels
  deletion_protection = false

  # A new token starts an execution; Terraform waits for the end of the execution.
  run_execution_token = substr(sha256(jsonencode(terraform_data.migrations.input)), 0, 8)

  template {
    template {
      service_account = var.logins["migrator"]
      timeout         = "1200s"
      max_retries     = 3

      containers {
        name    = "migrations"
        image   = var.migrations_image
        command = concat(local.proxy_command, local.deploy)

        env {
          name  = "DROPLINE_DATABASE__URL"
          value = local.urls["migrator"]
        }

        resources {
          limits = {
            cpu    = "1"
            memory = "1Gi"
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

  # Limit of all attempts together.
  timeouts {
    create = "90m"
  }

  lifecycle {
    # A manual execution removes the token from the job in Cloud Run.
    ignore_changes       = [run_execution_token]
    replace_triggered_by = [terraform_data.migrations]
  }

  depends_on = [google_sql_database.this, google_sql_user.service, google_sql_user.person, google_sql_user.gallery, time_sleep.login]
}

locals {
  port        = 5432
  health_port = 9801

  parameters = "@127.0.0.1:${local.port}/${local.database}?sslmode=disable"

  # The proxy encrypts, and logs in without a password as the container's service account.
  proxy_arguments = [
    "--private-ip",
    "--auto-iam-authn",
    "--structured-logs",
    # The function has no CPU between requests, so a certificate cannot be renewed in the background.
    "--lazy-refresh",
    "--port=${local.port}",
    "--health-check",
    "--http-address=0.0.0.0",
    "--http-port=${local.health_port}",
    local.connection_name,
  ]

  urls = {
    for role, login in local.login : role => join("", [
      "postgresql://${urlencode(login)}${local.parameters}",
      # Tables are owned by a role, not by the login of the migrations.
      role == "migrator" ? "&options=-crole%3Dcloudsqlsuperuser" : "",
    ])
  }

  # In a job, the proxy is a child process in the job's only container: a sidecar would keep a job alive whose main container
  # has died. Function and migrations have the proxy in their images (docs/decisions/0027-a-job-has-one-container.md).
  proxy_command = concat(
    ["python", "-m", "db.with_proxy", "--startup=http://127.0.0.1:${local.health_port}/startup", "--", "cloud-sql-proxy"],
    local.proxy_arguments,
    ["--"],
  )

  deploy = concat(
    ["python", "-m", "migrations.deploy"],
    [for role, login in local.login : "--grant=dropline_${role}=${login}" if role != "migrator"],
    [for login in local.person_login : "--grant=dropline_reader=${login}"],
    local.further_grants,
  )
}
