variable "project" {
  description = "Project that everything is created in."
  type        = string
}

variable "region" {
  description = "Region of Postgres and of the job that migrates it."
  type        = string
}

variable "name" {
  description = "Name of the instance, and the beginning of the other names."
  type        = string
}

variable "labels" {
  description = "Labels of everything that can have some."
  type        = map(string)
  default     = {}
}

variable "network" {
  description = "Id of the network that Postgres has its address in; its private services must be connected."
  type        = string
}

variable "subnetwork" {
  description = "Id of the subnetwork that the migrations run in."
  type        = string
}

variable "logins" {
  description = "E-mails of the service accounts that log in as `ingest` (the function), `worker` and `migrator`."
  type        = map(string)

  validation {
    condition     = toset(keys(var.logins)) == toset(["ingest", "worker", "migrator"])
    error_message = "Name a service account for each of ingest, worker and migrator, and for nothing else."
  }
}

variable "readers" {
  description = "E-mails of people and service accounts that may read captions with SQL, by any name."
  type        = map(string)
  default     = {}

  validation {
    condition     = alltrue([for email in values(var.readers) : can(regex("^[^@ ]+@[^@ ]+$", email)) && email == lower(email)])
    error_message = "Give e-mail addresses in lower case: Cloud SQL knows their owners by no other spelling."
  }

  validation {
    condition     = alltrue([for email in values(var.readers) : length(trimsuffix(email, ".gserviceaccount.com")) <= 63])
    error_message = "A login to Postgres has 63 letters at most, without .gserviceaccount.com."
  }
}

variable "migrations_image" {
  description = "Container image with the migrations; another one is run by the next apply."
  type        = string
}

variable "proxy_image" {
  description = "Container image of the Cloud SQL Auth Proxy."
  type        = string
  default     = "gcr.io/cloud-sql-connectors/cloud-sql-proxy:2.18.2"
}

variable "postgres_version" {
  description = "Version of Postgres, as Cloud SQL spells it."
  type        = string
  default     = "POSTGRES_17"

  validation {
    condition     = can(regex("^POSTGRES_(1[6-9]|[2-9][0-9])$", var.postgres_version))
    error_message = "Dropline's roles need Postgres 16 or newer: POSTGRES_16, POSTGRES_17, …"
  }
}

variable "tier" {
  description = "Machine type of Postgres."
  type        = string
  default     = "db-custom-1-3840"
}

variable "disk_gb" {
  description = "First size of the disk in GB; it grows by itself."
  type        = number
  default     = 10

  validation {
    condition     = var.disk_gb >= 10
    error_message = "Cloud SQL's smallest disk has 10 GB."
  }
}

variable "highly_available" {
  description = "Whether a second zone takes over when one is lost."
  type        = bool
  default     = false
}

variable "max_connections" {
  description = "Connections that Postgres accepts: each function instance and each image in flight may use some."
  type        = number
  default     = 200

  validation {
    condition     = var.max_connections >= 25
    error_message = "Cloud SQL needs some of them itself: set at least 25."
  }
}

variable "retained_backups" {
  description = "Daily backups that are kept."
  type        = number
  default     = 14

  validation {
    condition     = var.retained_backups >= 7
    error_message = "Keep at least a week of backups."
  }
}

variable "deletion_protection" {
  description = "Whether Terraform and the API refuse to delete Postgres."
  type        = bool
  default     = true
}
