variable "project" {
  description = "Project of all resources."
  type        = string
}

variable "region" {
  description = "Region of the function."
  type        = string
}

variable "name" {
  description = "Prefix of all resource names."
  type        = string
}

variable "labels" {
  description = "Labels of the service."
  type        = map(string)
  default     = {}
}

variable "image" {
  description = "Container image of the function, by digest."
  type        = string

  validation {
    condition     = can(regex("@sha256:[0-9a-f]{64}$", var.image))
    error_message = "Give the image by digest (REGISTRY/NAME@sha256:…): a tag can move to another image."
  }
}

variable "service_account" {
  description = "E-mail address of the function's service account, which has no rights on Cloud Storage."
  type        = string
}

variable "push_service_account" {
  description = "E-mail address of the push service account, which may invoke the function with events."
  type        = string
}

variable "wake" {
  description = "The calls of Cloud Tasks that wake or check the worker pool: the account of their token, which may invoke the function for this alone. null: no scale to zero."
  type = object({
    service_account = string
  })
  default = null
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
  description = "Postgres URL through the sidecar proxy, without a password."
  type        = string

  validation {
    condition     = !can(regex("://[^@/]*:[^@/]*@", var.database_url))
    error_message = "The Postgres URL contains a password. Give a URL without a password: the login is through IAM."
  }
}

variable "proxy" {
  description = "The Cloud SQL Auth Proxy, a sidecar of the function; `job_command` is the beginning of the redrive job's command, which runs the proxy in the job's own container."
  type = object({
    image       = string
    args        = list(string)
    health_port = number
    job_command = list(string)
  })

  validation {
    condition     = can(regex("@sha256:[0-9a-f]{64}$", var.proxy.image))
    error_message = "Give the image by digest (REGISTRY/NAME@sha256:…): a tag can move to another image."
  }
}

variable "broker_url_secret" {
  description = "Id of the secret with the URL of Redis; of another project: `projects/PROJECT/secrets/NAME`."
  type        = string
}

variable "broker_certificate" {
  description = "Secret with the certificate of Redis's certificate authority, and the mount path; null: no file is mounted."
  type = object({
    secret    = string
    directory = string
    file      = string
  })
  default = null
}

variable "buckets" {
  description = "Allowed buckets; events of other buckets are refused."
  type        = set(string)

  validation {
    condition     = length(var.buckets) > 0
    error_message = "Give at least one bucket: without a bucket the function would refuse every event."
  }
}

variable "default_task" {
  description = "Florence-2 task prompt of an object without a task prompt of its own; or several, as `<CAPTION>, <OD>`."
  type        = string
  default     = "<CAPTION>"

  validation {
    condition = alltrue([
      for task in split("\n", replace(var.default_task, "/\\s*,\\s*</", "\n<")) :
      anytrue([for pattern in local.task_patterns : can(regex(pattern, task))])
    ])
    error_message = "Florence-2 knows no such task, or the text after the task prompt is wrong: give <CAPTION>, <DETAILED_CAPTION>, <MORE_DETAILED_CAPTION>, <OCR>, <OD>, <OPEN_VOCABULARY_DETECTION>a car, … (dropline/contract.py has the full list). In a list, each task behind a comma needs its angle brackets."
  }
}

variable "task_by_prefix" {
  description = "Task prompt by object name prefix, or several; the longest prefix wins."
  type        = map(string)
  default     = {}

  validation {
    condition = alltrue([
      for task in flatten([for tasks in values(var.task_by_prefix) : split("\n", replace(tasks, "/\\s*,\\s*</", "\n<"))]) :
      anytrue([for pattern in local.task_patterns : can(regex(pattern, task))])
    ])
    error_message = "Florence-2 knows no such task, or the text after the task prompt is wrong: give <CAPTION>, <DETAILED_CAPTION>, <MORE_DETAILED_CAPTION>, <OCR>, <OD>, <OPEN_VOCABULARY_DETECTION>a car, … (dropline/contract.py has the full list). In a list, each task behind a comma needs its angle brackets."
  }
}

variable "max_size_bytes" {
  description = "Largest object in bytes; a larger object gets a `failed` row."
  type        = number
  default     = 50000000

  validation {
    condition     = var.max_size_bytes >= 1 && floor(var.max_size_bytes) == var.max_size_bytes
    error_message = "Give max_size_bytes as a whole number of bytes, 1 or more."
  }
}

variable "environment" {
  description = "Further settings, DROPLINE_… (docs/settings.md). Settings from other variables take precedence."
  type        = map(string)
  default     = {}

  validation {
    condition     = alltrue([for name in keys(var.environment) : can(regex("^DROPLINE_(BROKER|DATABASE|ENGINE|EVENTS|FETCH|GALLERY|IMAGES|LOG|METADATA|POOL|PUSH|RETENTION|SUBMIT|WORKER)__[A-Z_]+$", name))])
    error_message = "Setting names have the form DROPLINE_GROUP__NAME with a group from docs/settings.md."
  }

  validation {
    condition     = !anytrue([for name in keys(var.environment) : contains(["DROPLINE_DATABASE__URL", "DROPLINE_BROKER__URL"], name)])
    error_message = "Remove DROPLINE_DATABASE__URL and DROPLINE_BROKER__URL: the URLs come from the created resources."
  }
}

variable "instances" {
  description = "Minimum and maximum number of instances. With min = 0 the first event after a pause waits for the start of an instance."
  type = object({
    min = optional(number, 0)
    max = optional(number, 10)
  })
  default = {}

  validation {
    condition     = 0 <= var.instances.min && var.instances.min <= var.instances.max && var.instances.max >= 1 && floor(var.instances.min) == var.instances.min && floor(var.instances.max) == var.instances.max
    error_message = "Set whole numbers with 0 ≤ min ≤ max, and max to at least 1."
  }
}

variable "cpu" {
  description = "CPUs of an instance."
  type        = string
  default     = "1"

  validation {
    condition     = contains(["1", "2", "4", "6"], var.cpu)
    error_message = "Give 1, 2, 4 or 6 CPUs: an instance has at most 8, and the sidecar proxy needs one."
  }
}

variable "memory" {
  description = "Memory of an instance."
  type        = string
  default     = "512Mi"

  validation {
    condition     = can(regex("^[1-9][0-9]*(Mi|Gi)$", var.memory))
    error_message = "Give mebibytes or gibibytes, for example 512Mi."
  }
}
