variable "project" {
  description = "Project that everything is created in."
  type        = string
}

variable "region" {
  description = "Region of the pool; not all of them have the accelerator."
  type        = string
}

variable "name" {
  description = "Beginning of all names."
  type        = string
}

variable "labels" {
  description = "Labels of the pool."
  type        = map(string)
  default     = {}
}

variable "image" {
  description = "Container image of the worker, with its model baked in: a start should not depend on a hub."
  type        = string
}

variable "service_account" {
  description = "E-mail of the service account that the worker runs as."
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
  description = "The Cloud SQL Auth Proxy beside the worker."
  type = object({
    image       = string
    args        = list(string)
    health_port = number
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
  description = "Buckets whose objects the worker may read and whose metadata it may write."
  type        = set(string)
}

variable "accelerator" {
  description = "GPU of an instance, as Cloud Run spells it; null: none, for a trial."
  type        = string
  default     = "nvidia-l4"

  validation {
    condition     = var.accelerator == null || can(regex("^nvidia-[a-z0-9-]+$", var.accelerator))
    error_message = "Cloud Run's accelerators are spelt like nvidia-l4; null stands for none."
  }
}

variable "cpu" {
  description = "CPUs of the worker: 1, 2, 4 or 6, and one more is for the proxy. An L4 needs at least 4."
  type        = string
  default     = "4"

  validation {
    condition     = contains(["1", "2", "4", "6"], var.cpu) || can(regex("^[1-9][0-9]$", var.cpu))
    error_message = "Give 1, 2, 4 or 6 CPUs, or more than 9 with a GPU that allows it. An instance has 8 at most, and the proxy beside the worker takes one of them."
  }

  validation {
    condition = try(
      tonumber(trimsuffix(var.memory, "Gi")) <= 4 * tonumber(var.cpu) &&
      tonumber(trimsuffix(var.memory, "Gi")) >= (tonumber(var.cpu) >= 6 ? 4 : tonumber(var.cpu) >= 4 ? 2 : 1),
      true,
    )
    error_message = "CPUs and memory do not go together: Cloud Run takes at most 4Gi for each CPU, at least 2Gi with 4 CPUs, and at least 4Gi with 6."
  }

  validation {
    condition     = var.accelerator == null || tonumber(var.cpu) >= 4
    error_message = "An instance with a GPU needs at least 4 CPUs."
  }
}

variable "memory" {
  description = "Memory of the worker, at most 4Gi for each CPU. An L4 needs at least 16Gi."
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
  description = "Instances of the pool; where it sleeps, when it is awake. 0: none, images wait in the queue."
  type        = number
  default     = 1

  validation {
    condition     = var.instances >= 0 && floor(var.instances) == var.instances
    error_message = "The number of instances is a whole number, 0 or more."
  }
}

variable "sleep" {
  description = "Of a pool that sleeps: seconds without work after which it does; for how long events wait while it is put to sleep; for how long it is believed to be awake. null: it never sleeps."
  type = object({
    idle_s  = optional(number, 300)
    lease_s = optional(number, 60)
    awake_s = optional(number, 600)
  })
  default = null

  validation {
    condition     = var.sleep == null || try(var.sleep.idle_s > 0 && var.sleep.lease_s >= 30 && var.sleep.awake_s > 0, false)
    error_message = "Idle time and time awake are positive, and the lease has at least 30 seconds: a call to Cloud Run must fit in."
  }

  validation {
    condition     = var.sleep == null || var.instances >= 1
    error_message = "A pool that is woken up needs at least one instance when it is awake."
  }

  validation {
    condition     = var.sleep == null || length(var.scalers) > 0
    error_message = "A pool that sleeps, and that nobody may wake, would sleep for ever: name who may in scalers."
  }
}

variable "concurrency" {
  description = "Images that an instance has in flight at once."
  type        = number
  default     = 16

  validation {
    condition     = var.concurrency >= 1 && var.concurrency <= 512
    error_message = "Set 1 to 512 images."
  }
}

variable "checkpoint" {
  description = "Florence-2 checkpoint; null: the one that the image carries. The image asks no hub, so another one takes another image."
  type        = string
  default     = null
}

variable "revision" {
  description = "Commit of the checkpoint; null: the one that the image carries."
  type        = string
  default     = null
}

variable "max_size_bytes" {
  description = "Larger objects become a `failed` row; the same as the function's."
  type        = number
  default     = 50000000
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

variable "scalers" {
  description = "E-mails of the service accounts that may change the number of instances, by any name."
  type        = map(string)
  default     = {}
}
