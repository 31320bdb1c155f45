variable "project" {
  description = "Project that everything is created in."
  type        = string
}

variable "region" {
  description = "Region of the function."
  type        = string
}

variable "name" {
  description = "Beginning of all names."
  type        = string
}

variable "labels" {
  description = "Labels of the service."
  type        = map(string)
  default     = {}
}

variable "image" {
  description = "Container image of the function."
  type        = string
}

variable "service_account" {
  description = "E-mail of the service account that the function runs as. It has no rights on Cloud Storage."
  type        = string
}

variable "push_service_account" {
  description = "E-mail of the service account that pushes: the only one that may invoke the function."
  type        = string
}

variable "network" {
  description = "Id of the network with Postgres and Redis."
  type        = string
}

variable "subnetwork" {
  description = "Id of the subnetwork that instances get their addresses from."
  type        = string
}

variable "database_url" {
  description = "Postgres through the proxy, without a password."
  type        = string

  validation {
    condition     = !can(regex("://[^@/]*:[^@/]*@", var.database_url))
    error_message = "The address of Postgres has a password in it; log in through IAM instead."
  }
}

variable "proxy" {
  description = "The Cloud SQL Auth Proxy beside the function; `stop` has what makes it end with a job."
  type = object({
    image       = string
    args        = list(string)
    health_port = number
    stop        = object({ args = list(string), url = string })
  })
}

variable "broker_url_secret" {
  description = "Id of the secret with Redis's address."
  type        = string
}

variable "broker_certificate" {
  description = "Secret with the certificate authority of Redis, and where to mount it."
  type = object({
    secret    = string
    directory = string
    file      = string
  })
}

variable "buckets" {
  description = "Buckets that are ours; events of others are refused."
  type        = set(string)

  validation {
    condition     = length(var.buckets) > 0
    error_message = "Without a bucket every event would be refused."
  }
}

variable "default_task" {
  description = "Florence-2 task prompt of an object that names none."
  type        = string
  default     = "<CAPTION>"

  validation {
    condition     = anytrue([for pattern in local.task_patterns : can(regex(pattern, var.default_task))])
    error_message = "Florence-2 knows no such task, or takes none with such a text after it: give <CAPTION>, <DETAILED_CAPTION>, <MORE_DETAILED_CAPTION>, <OCR>, <OD>, <OPEN_VOCABULARY_DETECTION>a car, … (dropline/contract.py has all)."
  }
}

variable "task_by_prefix" {
  description = "Task prompt by object name prefix; the longest prefix wins."
  type        = map(string)
  default     = {}

  validation {
    condition = alltrue([
      for task in values(var.task_by_prefix) : anytrue([for pattern in local.task_patterns : can(regex(pattern, task))])
    ])
    error_message = "Florence-2 knows no such task, or takes none with such a text after it: give <CAPTION>, <DETAILED_CAPTION>, <MORE_DETAILED_CAPTION>, <OCR>, <OD>, <OPEN_VOCABULARY_DETECTION>a car, … (dropline/contract.py has all)."
  }
}

variable "max_size_bytes" {
  description = "Larger objects become a `failed` row."
  type        = number
  default     = 50000000

  validation {
    condition     = var.max_size_bytes >= 1
    error_message = "The size must be positive."
  }
}

variable "environment" {
  description = "Further settings, DROPLINE_… (docs/settings.md). Those that other variables set win."
  type        = map(string)
  default     = {}

  validation {
    condition     = alltrue([for name in keys(var.environment) : can(regex("^DROPLINE_(BROKER|DATABASE|ENGINE|EVENTS|IMAGES|LOG|METADATA|POOL|PUSH|WORKER)__[A-Z_]+$", name))])
    error_message = "Settings are spelt DROPLINE_GROUP__NAME, and the group must be one that exists; docs/settings.md has all of them."
  }

  validation {
    condition     = !anytrue([for name in keys(var.environment) : contains(["DROPLINE_DATABASE__URL", "DROPLINE_BROKER__URL"], name)])
    error_message = "Addresses of Postgres and Redis are set from what is created here."
  }
}

variable "instances" {
  description = "Fewest and most instances. With min = 0 the first event after a pause waits for a start."
  type = object({
    min = optional(number, 0)
    max = optional(number, 10)
  })
  default = {}

  validation {
    condition     = 0 <= var.instances.min && var.instances.min <= var.instances.max && var.instances.max >= 1
    error_message = "Set 0 ≤ min ≤ max, and max to at least 1."
  }
}

variable "cpu" {
  description = "CPUs of an instance."
  type        = string
  default     = "1"
}

variable "memory" {
  description = "Memory of an instance."
  type        = string
  default     = "512Mi"
}
