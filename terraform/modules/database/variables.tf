variable "project" {
  description = "Project of all resources."
  type        = string
}

variable "region" {
  description = "Region of Postgres and of the migrations job."
  type        = string
}

variable "name" {
  description = "Name of the instance, and prefix of the other resource names."
  type        = string
}

variable "labels" {
  description = "Labels of every resource that supports labels."
  type        = map(string)
  default     = {}
}

variable "network" {
  description = "Id of the network of Postgres; private services access must be configured."
  type        = string
}

variable "subnetwork" {
  description = "Id of the subnetwork of the migrations job."
  type        = string
}

variable "existing" {
  description = "A Cloud SQL instance to use instead of a new one: its connection name, PROJECT:REGION:NAME, and the name of the database that Terraform makes in it. `has_database`, `has_logins` (of `ingest`, `worker`, `migrator`, `gallery`) and `has_people` (names in `readers` or `editors`): what is in the instance already, and is neither made nor deleted. null: a new instance."
  type = object({
    connection_name = string
    database        = optional(string, "dropline")
    has_database    = optional(bool, false)
    has_logins      = optional(set(string), [])
    has_people      = optional(set(string), [])
  })
  default = null

  validation {
    condition     = var.existing == null ? true : can(regex("^[a-z][a-z0-9.:-]+:[a-z]+-[a-z]+[0-9]+:[a-z][a-z0-9-]*$", var.existing.connection_name))
    error_message = "Give the connection name of the instance, PROJECT:REGION:NAME, as in gcloud sql instances describe."
  }

  validation {
    condition     = var.existing == null ? true : can(regex("^[a-z][a-z0-9_-]{0,62}$", var.existing.database))
    error_message = "Give a name of the database of up to 63 lower case letters, digits, dashes and underscores."
  }

  validation {
    condition     = length(setsubtract(try(var.existing.has_logins, []), ["ingest", "worker", "migrator", "gallery"])) == 0
    error_message = "has_logins has a name that is none of ingest, worker, migrator and gallery."
  }

  validation {
    condition     = length(setsubtract(try(var.existing.has_people, []), concat(keys(var.readers), keys(var.editors)))) == 0
    error_message = "has_people has a name that is neither in readers nor in editors."
  }
}

variable "logins" {
  description = "E-mail addresses of the service accounts with the logins `ingest` (the function), `worker` and `migrator`."
  type        = map(string)

  validation {
    condition     = toset(keys(var.logins)) == toset(["ingest", "worker", "migrator"])
    error_message = "Give exactly three service accounts: ingest, worker and migrator."
  }
}

variable "readers" {
  description = "E-mail addresses of people and service accounts with read access to captions in SQL, by a name of your choice."
  type        = map(string)
  default     = {}

  validation {
    condition     = alltrue([for email in values(var.readers) : can(regex("^[^@ ]+@[^@ ]+$", email)) && email == lower(email)])
    error_message = "Give e-mail addresses in lower case: Cloud SQL accepts no other spelling of a login."
  }

  validation {
    condition     = alltrue([for email in values(var.readers) : length(trimsuffix(email, ".gserviceaccount.com")) <= 63])
    error_message = "A Postgres login (the e-mail address without .gserviceaccount.com) has 63 characters at most."
  }
}

variable "editors" {
  description = "E-mail addresses of people and service accounts with read access to captions in SQL, and the right to edit captions (docs/edit.md), by a name of your choice."
  type        = map(string)
  default     = {}

  validation {
    condition     = alltrue([for email in values(var.editors) : can(regex("^[^@ ]+@[^@ ]+$", email)) && email == lower(email) && length(trimsuffix(email, ".gserviceaccount.com")) <= 63])
    error_message = "Give e-mail addresses in lower case, of at most 63 characters without .gserviceaccount.com: Cloud SQL accepts no other login."
  }

  validation {
    condition     = length(setintersection(keys(var.editors), keys(var.readers))) == 0
    error_message = "A name is in readers and in editors. Remove it from readers: an editor may read everything that a reader may."
  }

  validation {
    condition     = length(distinct(concat(values(var.editors), values(var.readers)))) == length(var.editors) + length(var.readers)
    error_message = "An address has two names, in readers or editors. Give one name: an editor may read everything that a reader may."
  }
}

variable "gallery" {
  description = "The gallery's service account; `writes`: the gallery submits or edits, so its login has the role dropline_gallery instead of dropline_reader. null: no gallery."
  type = object({
    email  = string
    writes = bool
  })
  default = null
}

variable "migrations_image" {
  description = "Container image of the migrations, by digest; an apply with another image runs the migrations."
  type        = string

  validation {
    condition     = can(regex("@sha256:[0-9a-f]{64}$", var.migrations_image))
    error_message = "Give the image by digest (REGISTRY/NAME@sha256:…): a tag can move to another image."
  }
}

# Version 2.25.4, a manifest for several architectures. docs/terraform-checks.md says where the digest was read.
variable "proxy_image" {
  description = "Container image of the Cloud SQL Auth Proxy, by digest."
  type        = string
  default     = "gcr.io/cloud-sql-connectors/cloud-sql-proxy@sha256:88501f0a695a586988add1b8a206fdf3f29f9a1a3deeb9b45ef2b1481ea6be83"

  validation {
    condition     = can(regex("@sha256:[0-9a-f]{64}$", var.proxy_image))
    error_message = "Give the image by digest (REGISTRY/NAME@sha256:…): a tag can move to another image."
  }
}

variable "postgres_version" {
  description = "Version of Postgres, in Cloud SQL's spelling."
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

  validation {
    condition     = contains(["db-f1-micro", "db-g1-small"], var.tier) || can(regex("^db-custom-[0-9]+-[0-9]+$", var.tier))
    error_message = "Give db-custom-CPUS-MEBIBYTES, or db-f1-micro or db-g1-small for a trial: the edition is Enterprise."
  }

  validation {
    condition     = try([for number in regex("^db-custom-([0-9]+)-([0-9]+)$", var.tier) : tonumber(number)][0] == 1 || [for number in regex("^db-custom-([0-9]+)-([0-9]+)$", var.tier) : tonumber(number)][0] % 2 == 0 && [for number in regex("^db-custom-([0-9]+)-([0-9]+)$", var.tier) : tonumber(number)][0] <= 96, true)
    error_message = "Cloud SQL has 1 CPU, or an even number up to 96."
  }

  validation {
    condition     = try([for number in regex("^db-custom-([0-9]+)-([0-9]+)$", var.tier) : tonumber(number)][1] % 256 == 0 && [for number in regex("^db-custom-([0-9]+)-([0-9]+)$", var.tier) : tonumber(number)][1] >= 3840 && [for number in regex("^db-custom-([0-9]+)-([0-9]+)$", var.tier) : tonumber(number)][1] >= 922 * [for number in regex("^db-custom-([0-9]+)-([0-9]+)$", var.tier) : tonumber(number)][0] && [for number in regex("^db-custom-([0-9]+)-([0-9]+)$", var.tier) : tonumber(number)][1] <= 6656 * [for number in regex("^db-custom-([0-9]+)-([0-9]+)$", var.tier) : tonumber(number)][0], true)
    error_message = "The memory of db-custom-CPUS-MEBIBYTES is a multiple of 256, at least 3840, and 0.9 to 6.5 GiB for each CPU."
  }
}

variable "disk_gb" {
  description = "Initial size of the disk in GB; the disk grows automatically."
  type        = number
  default     = 10

  validation {
    condition     = var.disk_gb >= 10 && var.disk_gb <= 65536 && floor(var.disk_gb) == var.disk_gb
    error_message = "Give a whole number of GB, 10 to 65536, the limits of Cloud SQL."
  }
}

variable "highly_available" {
  description = "True: a standby in a second zone takes over when the first zone fails."
  type        = bool
  default     = false
}

variable "max_connections" {
  description = "Connection limit of Postgres: each function instance and each image in flight may use connections."
  type        = number
  default     = 200

  validation {
    condition     = var.max_connections >= 25 && var.max_connections <= 262143 && floor(var.max_connections) == var.max_connections
    error_message = "Set a whole number of connections, 25 to 262143: Cloud SQL uses a part of the limit for administration."
  }
}

variable "retained_backups" {
  description = "Number of daily backups to keep."
  type        = number
  default     = 14

  validation {
    condition     = var.retained_backups >= 7 && var.retained_backups <= 365 && floor(var.retained_backups) == var.retained_backups
    error_message = "Keep 7 to 365 daily backups."
  }
}

variable "deletion_protection" {
  description = "True: Terraform and the Cloud SQL API refuse to delete Postgres."
  type        = bool
  default     = true
}

variable "suffix" {
  description = "End of the names that Google keeps after a deletion; empty: none. What exists keeps its name."
  type        = string
  default     = ""

  validation {
    condition     = can(regex("^[a-z0-9]{0,8}$", var.suffix))
    error_message = "Give at most eight lower case letters and digits."
  }
}
