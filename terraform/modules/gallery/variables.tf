variable "project" {
  description = "Project of all resources."
  type        = string
}

variable "project_number" {
  description = "Number of the project: part of the audience of Identity-Aware Proxy, and of its service agent's name."
  type        = string
}

variable "region" {
  description = "Region of the gallery."
  type        = string
}

variable "name" {
  description = "Prefix of all resource names."
  type        = string
}

variable "labels" {
  description = "Labels of service and secret."
  type        = map(string)
  default     = {}
}

variable "image" {
  description = "Container image of the gallery, by digest."
  type        = string

  validation {
    condition     = can(regex("@sha256:[0-9a-f]{64}$", var.image))
    error_message = "Give the image by digest (REGISTRY/NAME@sha256:…): a tag can move to another image."
  }
}

variable "service_account" {
  description = "E-mail address of the gallery's service account."
  type        = string
}

variable "members" {
  description = "Members whom Identity-Aware Proxy admits, as `user:ana@example.com`, `group:team@example.com` or `domain:example.com`. Empty: no proxy, and `tokens`."
  type        = list(string)
  default     = []

  validation {
    condition     = alltrue([for member in var.members : can(regex("^(user|group|domain|serviceAccount|principal|principalSet):", member))])
    error_message = "Give members as user:ana@example.com, group:team@example.com or domain:example.com; not allUsers: captions and images would be public."
  }
}

variable "tokens" {
  description = "Tokens, each as NAME:SCOPES:SHA256, as `dropline gallery token` prints. Empty: Identity-Aware Proxy, and `members`."
  type        = list(string)
  default     = []

  validation {
    condition     = alltrue([for token in var.tokens : can(regex("^[A-Za-z0-9._-]{1,64}:(read|submit|edit)([+](read|submit|edit))*:[0-9a-f]{64}$", token))])
    error_message = "Give each token as NAME:SCOPES:SHA256, as dropline gallery token prints it, not the token itself."
  }

  validation {
    condition     = (length(var.tokens) > 0) != (length(var.members) > 0)
    error_message = "Give either members, for Identity-Aware Proxy, or tokens: the gallery would be open to nobody, and with both the proxy would refuse requests that have a token."
  }

  validation {
    condition     = alltrue([for token in var.tokens : length(setsubtract(try(split("+", split(":", token)[1]), []), var.scopes)) == 0])
    error_message = "A token has a scope that is not in scopes: the gallery's account would lack the rights for it."
  }
}

variable "scopes" {
  description = "Scopes of everyone whom Identity-Aware Proxy admits; the tokens' scopes are among them. The rights of the gallery's account follow from them."
  type        = set(string)
  default     = ["read", "submit", "edit"]

  validation {
    condition     = length(var.scopes) > 0 && length(setsubtract(var.scopes, ["read", "submit", "edit"])) == 0
    error_message = "Give some of the scopes read, submit and edit."
  }
}

variable "network" {
  description = "Id of the network of Postgres and Redis."
  type        = string
}

variable "subnetwork" {
  description = "Id of the subnetwork of the instances."
  type        = string
}

variable "database_url" {
  description = "Postgres URL through the sidecar proxy, without a password. The login has the role dropline_gallery, or dropline_reader where the only scope is read."
  type        = string

  validation {
    condition     = !can(regex("://[^@/]*:[^@/]*@", var.database_url))
    error_message = "The Postgres URL contains a password. Give a URL without a password: the login is through IAM."
  }
}

variable "proxy" {
  description = "The Cloud SQL Auth Proxy, a sidecar of the gallery."
  type = object({
    image       = string
    args        = list(string)
    health_port = number
  })
}

variable "broker_url_secret" {
  description = "Id of the secret with the URL of Redis; null for a gallery that only reads, which sends no messages."
  type        = string
  default     = null

  validation {
    condition     = (var.broker_url_secret == null) == (length(setintersection(var.scopes, ["submit", "edit"])) == 0)
    error_message = "A gallery with the scope submit or edit needs the URL of Redis, for its messages; a gallery that only reads must not have it, because the URL has a password."
  }
}

variable "broker_certificate" {
  description = "Secret with the certificate of Redis's certificate authority, and the mount path; null: the URL of Redis needs none."
  type = object({
    secret    = string
    directory = string
    file      = string
  })
  default = null
}

variable "buckets" {
  description = "Buckets whose objects are shown; uploads go to the first."
  type        = list(string)

  validation {
    condition     = length(var.buckets) > 0
    error_message = "Give at least one bucket."
  }
}

variable "buckets_elsewhere" {
  description = "The project of each bucket of another project, by bucket. Such a project gets custom roles of its own: a custom role can only be given in its project."
  type        = map(string)
  default     = {}

  validation {
    condition     = alltrue([for bucket in keys(var.buckets_elsewhere) : contains(var.buckets, bucket)])
    error_message = "A bucket of another project is not in buckets."
  }
}

variable "submit_prefix" {
  description = "Beginning of the names of uploads, where the first bucket announces certain prefixes alone; null: `submitted/`."
  type        = string
  default     = null

  validation {
    condition     = can(regex("/$", coalesce(var.submit_prefix, "/")))
    error_message = "Give a prefix that ends with a slash."
  }
}

variable "default_task" {
  description = "As for the function."
  type        = string
  default     = "<CAPTION>"
}

variable "task_by_prefix" {
  description = "As for the function."
  type        = map(string)
  default     = {}
}

variable "max_size_bytes" {
  description = "Largest object in bytes; the function needs the same value."
  type        = number
  default     = 50000000
}

variable "environment" {
  description = "Further settings, DROPLINE_… (docs/settings.md), with those of scale to zero. Settings from other variables take precedence."
  type        = map(string)
  default     = {}
}

variable "instances" {
  description = "Minimum and maximum number of instances. Limits of requests hold for each instance."
  type = object({
    min = optional(number, 0)
    max = optional(number, 3)
  })
  default = {}

  validation {
    condition     = 0 <= var.instances.min && var.instances.min <= var.instances.max && var.instances.max >= 1 && floor(var.instances.min) == var.instances.min && floor(var.instances.max) == var.instances.max
    error_message = "Set whole numbers with 0 ≤ min ≤ max, and max to at least 1."
  }
}

variable "memory" {
  description = "Memory of an instance, which also holds the thumbnails."
  type        = string
  default     = "2Gi"

  validation {
    condition     = contains(["1Gi", "2Gi", "3Gi", "4Gi"], var.memory)
    error_message = "Give 1Gi to 4Gi: the gallery has one CPU, and Cloud Run gives a CPU 4 GiB at most."
  }
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
