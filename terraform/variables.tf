variable "project" {
  description = "Project that Dropline lives in."
  type        = string

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{4,28}[a-z0-9]$", var.project))
    error_message = "Give the project's id (my-project-123), not its name or number."
  }
}

variable "region" {
  description = "Region of everything. For the default worker it must have L4 GPUs in Cloud Run."
  type        = string
  default     = "us-central1"

  validation {
    condition     = can(regex("^[a-z]+-[a-z]+[0-9]+$", var.region))
    error_message = "Give a region such as us-central1, not a zone."
  }
}

variable "name" {
  description = "Beginning of all names; another one makes a second Dropline in the same project."
  type        = string
  default     = "dropline"

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{1,18}[a-z0-9]$", var.name))
    error_message = "The name has 3 to 20 lower case letters, digits and dashes, and begins with a letter: service accounts' names are short."
  }

  validation {
    condition     = !startswith(var.name, "goog")
    error_message = "Pub/Sub keeps names that begin with goog for itself."
  }

  # NAME-function@PROJECT.iam
  validation {
    condition     = length(var.name) + length(var.project) <= 49
    error_message = "Name and project together have more than 49 letters: a login to Postgres is made of both, and has 63 at most. Take a shorter name."
  }
}

variable "labels" {
  description = "Labels of everything that can have some, beside app = dropline."
  type        = map(string)
  default     = {}

  validation {
    condition     = alltrue([for key, value in var.labels : can(regex("^[a-z][a-z0-9_-]{0,62}$", key)) && can(regex("^[a-z0-9_-]{0,63}$", value))])
    error_message = "Labels have lower case letters, digits, dashes and underscores, up to 63."
  }
}

variable "buckets" {
  description = "Buckets whose images are captioned, each as a whole or some prefixes of it; `create = false` for one of this project that exists already. Empty: one bucket, PROJECT-NAME-drops."
  type = list(object({
    name          = string
    create        = optional(bool, true)
    location      = optional(string)
    storage_class = optional(string, "STANDARD")
    prefixes      = optional(list(string), [""])
  }))
  default = []

  validation {
    condition     = alltrue([for bucket in var.buckets : length(bucket.prefixes) > 0])
    error_message = "A bucket without prefixes would never be listened to; leave prefixes out for the whole bucket."
  }

  validation {
    condition     = alltrue([for bucket in var.buckets : length(bucket.prefixes) <= 10])
    error_message = "Cloud Storage allows a bucket ten notifications of a kind, and each prefix is one: name prefixes that are shorter, or the whole bucket."
  }

  validation {
    condition = alltrue(flatten([
      for bucket in var.buckets : [
        for pair in setproduct(bucket.prefixes, bucket.prefixes) : pair[0] == pair[1] || !startswith(pair[1], pair[0])
      ]
    ]))
    error_message = "One prefix is the beginning of another, so Cloud Storage would refuse the second or send its events twice."
  }
}

variable "registry" {
  description = "Where the images are that `images` leaves out; null: REGION-docker.pkg.dev/PROJECT/dropline, which must be there before the first apply. One of another project must let this project's Cloud Run read (`roles/artifactregistry.reader` for its service agent, `service-NUMBER@serverless-robot-prod.iam.gserviceaccount.com`)."
  type        = string
  default     = null
}

variable "images" {
  description = "Container images; those left out are REGISTRY/function, worker and migrations, of version `image_tag`."
  type = object({
    function   = optional(string)
    worker     = optional(string)
    migrations = optional(string)
  })
  default = {}
}

variable "image_tag" {
  description = "Tag of the images that `images` leaves out: a version of Dropline."
  type        = string
  default     = "0.1.0"

  validation {
    condition     = var.image_tag != "latest" && var.image_tag != ""
    error_message = "Give a version: with latest nobody can tell what runs, and an apply cannot tell that it changed."
  }
}

variable "default_task" {
  description = "Florence-2 task prompt of an object that names none."
  type        = string
  default     = "<CAPTION>"
}

variable "task_by_prefix" {
  description = "Task prompt by object name prefix; the longest prefix wins."
  type        = map(string)
  default     = {}
}

variable "max_size_bytes" {
  description = "Larger objects become a `failed` row."
  type        = number
  default     = 50000000
}

variable "environment" {
  description = "Further settings of function and worker, DROPLINE_… (docs/settings.md)."
  type        = map(string)
  default     = {}

  validation {
    condition     = alltrue([for name in keys(var.environment) : can(regex("^DROPLINE_(BROKER|DATABASE|ENGINE|EVENTS|IMAGES|LOG|METADATA|POOL|PUSH|WORKER)__[A-Z_]+$", name))])
    error_message = "Settings are spelt DROPLINE_GROUP__NAME, and the group must be one that exists; docs/settings.md has all of them."
  }

  validation {
    condition     = !anytrue([for name in keys(var.environment) : startswith(name, "DROPLINE_POOL__")])
    error_message = "Sleeping and waking is set with worker_scale_to_zero and worker_sleep: it needs rights, too."
  }
}

variable "function_instances" {
  description = "Fewest and most instances of the function."
  type = object({
    min = optional(number, 0)
    max = optional(number, 10)
  })
  default = {}
}

variable "worker_scale_to_zero" {
  description = "Whether the pool sleeps, and costs nothing, while there is no work: the function wakes it, the worker puts it to sleep."
  type        = bool
  default     = true
  nullable    = false
}

variable "worker_sleep" {
  description = "With worker_scale_to_zero: seconds without work after which the pool sleeps; for how long events wait while it is put to sleep; for how long it is believed to be awake."
  type = object({
    idle_s  = optional(number, 300)
    lease_s = optional(number, 60)
    awake_s = optional(number, 600)
  })
  default  = {}
  nullable = false

  validation {
    condition     = var.worker_sleep.idle_s > 0 && var.worker_sleep.lease_s >= 30 && var.worker_sleep.awake_s > 0
    error_message = "Idle time and time awake are positive, and the lease has at least 30 seconds: a call to Cloud Run must fit in."
  }
}

variable "worker" {
  description = "The worker pool; `instances`: as many as there are, with worker_scale_to_zero as many as there are when it is awake. For a trial without a GPU: accelerator = \"none\", and fewer CPUs and less memory if you like."
  type = object({
    accelerator = optional(string, "nvidia-l4")
    cpu         = optional(string, "4")
    memory      = optional(string, "16Gi")
    instances   = optional(number, 1)
    concurrency = optional(number, 16)
    checkpoint  = optional(string)
    revision    = optional(string)
  })
  default = {}
}

variable "database" {
  description = "Postgres: machine type, first disk size, a second zone, connections."
  type = object({
    tier             = optional(string, "db-custom-1-3840")
    disk_gb          = optional(number, 10)
    highly_available = optional(bool, false)
    max_connections  = optional(number, 200)
  })
  default = {}
}

variable "database_readers" {
  description = "E-mails of people and service accounts that may read captions with SQL, by any name; in lower case."
  type        = map(string)
  default     = {}
}

variable "redis_memory_gb" {
  description = "Memory of Redis, in GiB."
  type        = number
  default     = 1
}

variable "retry" {
  description = "How long an event is tried again: back-off in seconds, and how often before it becomes a dead letter."
  type = object({
    minimum_backoff_s     = optional(number, 5)
    maximum_backoff_s     = optional(number, 600)
    max_delivery_attempts = optional(number, 50)
  })
  default = {}

  validation {
    condition     = !var.worker_scale_to_zero || var.retry.max_delivery_attempts >= 10
    error_message = "Where the pool scales to zero events are refused while it is put to sleep: allow at least 10 delivery attempts."
  }

  validation {
    condition = !var.worker_scale_to_zero || sum([
      for attempt in range(9) : min(var.retry.maximum_backoff_s, var.retry.minimum_backoff_s * pow(2, attempt))
    ]) >= 2 * var.worker_sleep.lease_s
    error_message = "Where the pool scales to zero the first ten attempts must take longer than two leases (worker_sleep.lease_s): raise the back-off."
  }
}

variable "network_cidr" {
  description = "Range of the subnetwork that Cloud Run takes its addresses from."
  type        = string
  default     = "10.20.0.0/22"
}

variable "alert_emails" {
  description = "Who is told of alerts; empty: they show in the console only."
  type        = set(string)
  default     = []
}

variable "alert_thresholds" {
  description = "When to alert: age of the oldest event in seconds, 5xx per second, seconds in which images were accepted and none was captioned."
  type = object({
    oldest_event_s = optional(number, 600)
    errors_per_s   = optional(number, 0.1)
    image_waits_s  = optional(number, 900)
  })
  default = {}
}

variable "budget" {
  description = "Monthly budget of the project that is watched, not enforced, in the billing account's currency, which `currency` may only repeat; null: none."
  type = object({
    billing_account = string
    amount          = number
    currency        = optional(string)
  })
  default = null
}

variable "deletion_protection" {
  description = "Whether buckets, Postgres and Redis refuse to be deleted. Without it `terraform destroy` takes them with all that they hold."
  type        = bool
  default     = true
}
