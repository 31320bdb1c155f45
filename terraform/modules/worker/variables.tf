variable "project" {
  description = "Project of all resources."
  type        = string
}

variable "region" {
  description = "Region of the worker pool; not every region has the accelerator."
  type        = string
}

variable "tasks_region" {
  description = "Region of the queue of Cloud Tasks; null: the region, or a near one where Cloud Tasks does not exist in the region."
  type        = string
  default     = null
}

variable "name" {
  description = "Prefix of all resource names."
  type        = string
}

variable "labels" {
  description = "Labels of the worker pool."
  type        = map(string)
  default     = {}
}

variable "image" {
  description = "Container image of the worker, by digest, with the model inside, so that a start needs no download from the model hub."
  type        = string

  validation {
    condition     = can(regex("@sha256:[0-9a-f]{64}$", var.image))
    error_message = "Give the image by digest (REGISTRY/NAME@sha256:…): a tag can move to another image."
  }
}

variable "service_account" {
  description = "E-mail address of the worker's service account."
  type        = string
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
  description = "The Cloud SQL Auth Proxy, a sidecar of the worker."
  type = object({
    image       = string
    args        = list(string)
    health_port = number
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
  description = "Buckets for the worker's right to read objects and write object metadata."
  type        = set(string)
}

variable "buckets_elsewhere" {
  description = "The project of each bucket of another project, by bucket. Such a project gets a custom role of its own: a custom role can only be given in its project."
  type        = map(string)
  default     = {}

  validation {
    condition     = alltrue([for bucket in keys(var.buckets_elsewhere) : contains(var.buckets, bucket)])
    error_message = "A bucket of another project is not in buckets."
  }
}

variable "accelerator" {
  description = "GPU of an instance, in Cloud Run's spelling; null: no GPU, for a trial."
  type        = string
  default     = "nvidia-l4"

  validation {
    condition     = var.accelerator == null || can(regex("^nvidia-[a-z0-9-]+$", var.accelerator))
    error_message = "Give an accelerator in Cloud Run's spelling, for example nvidia-l4, or null for no GPU."
  }
}

variable "cpu" {
  description = "CPUs of the worker: 1, 2, 4 or 6; the proxy gets one more. An L4 needs at least 4."
  type        = string
  default     = "4"

  validation {
    condition     = contains(["1", "2", "4", "6"], var.cpu) || can(regex("^[1-9][0-9]$", var.cpu))
    error_message = "Give 1, 2, 4 or 6 CPUs, or more than 9 with a GPU that allows so many. An instance has at most 8, and the sidecar proxy of the worker needs one CPU."
  }

  validation {
    condition = try(
      tonumber(trimsuffix(var.memory, "Gi")) <= 4 * tonumber(var.cpu) &&
      tonumber(trimsuffix(var.memory, "Gi")) >= (tonumber(var.cpu) >= 6 ? 4 : tonumber(var.cpu) >= 4 ? 2 : 1),
      true,
    )
    error_message = "Memory does not fit the number of CPUs: Cloud Run allows at most 4Gi per CPU, and requires at least 2Gi for 4 CPUs and at least 4Gi for 6 CPUs."
  }

  validation {
    condition     = var.accelerator == null || tonumber(var.cpu) >= 4
    error_message = "An instance with a GPU needs at least 4 CPUs."
  }
}

variable "memory" {
  description = "Memory of the worker, at most 4Gi per CPU. An L4 needs at least 16Gi."
  type        = string
  default     = "16Gi"

  validation {
    condition     = can(regex("^[1-9][0-9]*Gi$", var.memory))
    error_message = "Give whole gibibytes, for example 16Gi."
  }

  validation {
    condition     = var.accelerator == null || try(tonumber(trimsuffix(var.memory, "Gi")) >= 16, false)
    error_message = "An instance with a GPU needs at least 16Gi."
  }
}

variable "instances" {
  description = "Number of instances; with scale to zero, the number after a wake-up. 0: no instances, images wait in the queue."
  type        = number
  default     = 1

  validation {
    condition     = var.instances >= 0 && var.instances <= 1000 && floor(var.instances) == var.instances
    error_message = "Give the number of instances as a whole number, 0 to 1000."
  }
}

variable "sleep" {
  description = "Timings of scale to zero in seconds. `idle_s`: time without work before the worker pool scales to zero; `lease_s`: time for which events are refused during the change to zero; `awake_s`: time for which the function assumes a running worker pool after a wake-up; `check_s`: time after a wake-up until the function checks that a worker is ready. null: no scale to zero."
  type = object({
    idle_s  = optional(number, 300)
    lease_s = optional(number, 60)
    awake_s = optional(number, 600)
    check_s = optional(number, 300)
  })
  default = null

  validation {
    condition     = var.sleep == null || try(var.sleep.idle_s > 0 && var.sleep.lease_s >= 30 && var.sleep.awake_s > 0 && var.sleep.check_s > 0 && var.sleep.check_s <= 3600, false)
    error_message = "idle_s and awake_s must be positive, check_s at most 3600, and lease_s at least 30 seconds: a call to Cloud Run must finish within the lease."
  }

  validation {
    condition     = var.sleep == null || var.instances >= 1
    error_message = "With scale to zero, give at least one instance: the function scales the worker pool up to this number."
  }

  validation {
    condition     = var.sleep == null || var.wake != null
    error_message = "wake is null: with scale to zero, give the function's address for the calls of Cloud Tasks, and the account and audience of their token."
  }

  validation {
    condition     = var.sleep == null || length(var.scalers) > 0
    error_message = "scalers is empty: without an account with the right to scale the worker pool up, the worker pool would stay at zero. Give at least one account in scalers."
  }
}

variable "concurrency" {
  description = "Number of images in flight per instance."
  type        = number
  default     = 16

  validation {
    condition     = var.concurrency >= 1 && var.concurrency <= 512 && floor(var.concurrency) == var.concurrency
    error_message = "Give 1 to 512 images, as a whole number."
  }
}

variable "checkpoint" {
  description = "Florence-2 checkpoint; null: the checkpoint in the container image. Another checkpoint needs another container image: the worker downloads no model."
  type        = string
  default     = null

  validation {
    condition     = can(regex("^[^\\s]+$", coalesce(var.checkpoint, "demo")))
    error_message = "Give a name of the model hub (microsoft/Florence-2-base), a directory of the image, or demo; without spaces."
  }
}

variable "revision" {
  description = "Commit of the checkpoint; null: the commit in the container image."
  type        = string
  default     = null

  validation {
    condition     = can(regex("^[0-9a-f]{40}$", coalesce(var.revision, "0000000000000000000000000000000000000000")))
    error_message = "Give the commit of the checkpoint, 40 digits and letters a to f: a branch or a tag can move to another model."
  }
}

variable "max_size_bytes" {
  description = "Largest object in bytes; a larger object gets a `failed` row. The function needs the same value."
  type        = number
  default     = 50000000
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

variable "scalers" {
  description = "E-mail addresses of the service accounts with the right to change the number of instances, by a name of your choice."
  type        = map(string)
  default     = {}
}

variable "wakers" {
  description = "E-mail addresses of further service accounts that have the function wake the worker pool, by a call of Cloud Tasks, by a name of your choice. They get no right on the worker pool, and cannot act as its account."
  type        = map(string)
  default     = {}

  validation {
    condition     = length(setintersection(keys(var.wakers), keys(var.scalers))) == 0
    error_message = "A name is in wakers and in scalers. Remove it from wakers: a scaler has the same right on the queue."
  }

  validation {
    condition     = length(var.wakers) == 0 || var.sleep != null
    error_message = "wakers is given without sleep: without scale to zero there is no queue of Cloud Tasks, and nothing to wake."
  }
}

variable "wake" {
  description = "The calls of Cloud Tasks that wake or check the worker pool: the function's address with the path /wake, the account of their token, and its audience. null: no scale to zero."
  type = object({
    url             = string
    service_account = string
    audience        = string
  })
  default = null
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
