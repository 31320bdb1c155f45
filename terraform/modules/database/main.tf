locals {
  database = var.existing == null ? "dropline" : var.existing.database

  # The parts of an existing instance's connection name, PROJECT:REGION:NAME; the project's id may have a colon itself.
  given = try(regex("^(?P<project>.+):(?P<region>[^:]+):(?P<name>[^:]+)$", var.existing.connection_name), null)

  # Known before the apply; `instance` is available after the instance.
  instance_project = local.given == null ? var.project : local.given.project
  instance_name    = local.given == null ? google_sql_database_instance.this[0].name : local.given.name
  instance         = local.given == null ? google_sql_database_instance.this[0].name : local.given.name
  connection_name  = local.given == null ? google_sql_database_instance.this[0].connection_name : var.existing.connection_name

  # What an existing instance has already. Terraform neither makes nor deletes it.
  has_database = try(var.existing.has_database, false)
  has_logins   = try(var.existing.has_logins, [])
  has_people   = try(var.existing.has_people, [])

  # The Cloud SQL login of a service account is the e-mail address without the ending .gserviceaccount.com.
  login = { for role, email in var.logins : role => trimsuffix(email, ".gserviceaccount.com") }
  # Readers and editors are one kind of login, so that a reader becomes an editor by a grant alone.
  people       = merge(var.readers, var.editors)
  person_login = { for name, email in local.people : name => trimsuffix(email, ".gserviceaccount.com") }
}

resource "google_sql_database_instance" "this" {
  count = local.given == null ? 1 : 0

  project             = var.project
  name                = join("-", compact([var.name, var.suffix]))
  region              = var.region
  database_version    = var.postgres_version
  deletion_protection = var.deletion_protection

  settings {
    tier                        = var.tier
    edition                     = "ENTERPRISE"
    availability_type           = var.highly_available ? "REGIONAL" : "ZONAL"
    disk_type                   = "PD_SSD"
    disk_size                   = var.disk_gb
    disk_autoresize             = true
    deletion_protection_enabled = var.deletion_protection
    user_labels                 = var.labels

    ip_configuration {
      ipv4_enabled    = false
      private_network = var.network

      # Only clients with a client certificate may connect; the proxy gets a certificate through IAM.
      ssl_mode = "TRUSTED_CLIENT_CERTIFICATE_REQUIRED"
    }

    backup_configuration {
      enabled                        = true
      start_time                     = "03:00"
      point_in_time_recovery_enabled = true
      transaction_log_retention_days = 7

      backup_retention_settings {
        retained_backups = var.retained_backups
      }
    }

    maintenance_window {
      day          = 7
      hour         = 4
      update_track = "stable"
    }

    insights_config {
      query_insights_enabled = true
    }

    # Service accounts and people log in through IAM, without a password.
    database_flags {
      name  = "cloudsql.iam_authentication"
      value = "on"
    }

    database_flags {
      name  = "max_connections"
      value = tostring(var.max_connections)
    }

    # Log slow statements only (1 s or more); a log of every statement would contain the data.
    database_flags {
      name  = "log_min_duration_statement"
      value = "1000"
    }

    database_flags {
      name  = "log_checkpoints"
      value = "on"
    }

    database_flags {
      name  = "log_connections"
      value = "on"
    }

    database_flags {
      name  = "log_disconnections"
      value = "on"
    }

    database_flags {
      name  = "log_lock_waits"
      value = "on"
    }
  }

  # An instance that exists keeps its name.
  lifecycle {
    ignore_changes = [name]
  }
}

resource "google_sql_database" "this" {
  count = local.has_database ? 0 : 1

  project  = local.instance_project
  name     = local.database
  instance = local.instance

  # The database is deleted with the instance: a DROP DATABASE fails while clients are connected. In an existing instance the
  # database stays.
  deletion_policy = var.deletion_protection ? "PREVENT" : "ABANDON"
}

moved {
  from = google_sql_database.this
  to   = google_sql_database.this[0]
}
