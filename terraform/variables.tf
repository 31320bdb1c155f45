variable "project" {
  description = "Project of the deployment."
  type        = string

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{4,28}[a-z0-9]$", var.project))
    error_message = "Give the project's id (my-project-123), not its name or number."
  }
}

variable "region" {
  description = "Region of every resource except the queue of Cloud Tasks (`tasks_region`). The default worker needs a region with L4 GPUs in Cloud Run."
  type        = string
  default     = "europe-west4"
  nullable    = false

  validation {
    condition     = can(regex("^[a-z]+-[a-z]+[0-9]+$", var.region))
    error_message = "Give a region such as europe-west4, not a zone."
  }
}

variable "tasks_region" {
  description = "Region of the queue of Cloud Tasks, which scale to zero needs; its tasks have no data of an image. null: the region, or a near one where Cloud Tasks does not exist in the region (europe-west1 for europe-west4)."
  type        = string
  default     = null

  validation {
    condition     = var.tasks_region == null || can(regex("^[a-z]+-[a-z]+[0-9]+$", var.tasks_region))
    error_message = "Give a region such as europe-west1, not a zone."
  }
}

variable "name" {
  description = "Prefix of all resource names. A second deployment in the same project needs another prefix."
  type        = string
  default     = "dropline"
  nullable    = false

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{1,18}[a-z0-9]$", var.name))
    error_message = "Give a name of 3 to 20 lower case letters, digits and dashes that begins with a letter: the names of service accounts are short."
  }

  validation {
    condition     = !startswith(var.name, "goog") && !strcontains(var.name, "google")
    error_message = "Give a name that does not begin with goog and does not contain google: Pub/Sub and Cloud Storage refuse such names."
  }

  # NAME-function@PROJECT.iam
  validation {
    condition     = length(var.name) + length(var.project) <= 49
    error_message = "The name and the project id together have more than 49 characters: a Postgres login contains both, and has 63 characters at most. Give a shorter name."
  }
}

variable "labels" {
  description = "Labels of every resource that supports labels, in addition to app = dropline."
  type        = map(string)
  default     = {}
  nullable    = false

  validation {
    condition     = alltrue([for key, value in var.labels : can(regex("^[a-z][a-z0-9_-]{0,62}$", key)) && can(regex("^[a-z0-9_-]{0,63}$", value))])
    error_message = "Labels consist of up to 63 lower case letters, digits, dashes and underscores."
  }

  validation {
    condition     = length(var.labels) <= 63
    error_message = "Give at most 63 labels: Google allows 64, and one is app."
  }
}

variable "buckets" {
  description = "Buckets whose images are captioned, each whole or limited to prefixes; `create = false` for an existing bucket, `project` for an existing bucket of another project. Empty: a single new bucket, PROJECT-NAME-drops."
  type = list(object({
    name          = string
    project       = optional(string)
    create        = optional(bool, true)
    location      = optional(string)
    storage_class = optional(string, "STANDARD")
    prefixes      = optional(list(string), [""])
  }))
  default  = []
  nullable = false

  validation {
    condition     = alltrue([for bucket in var.buckets : bucket.project == null || bucket.project == var.project || !bucket.create])
    error_message = "A bucket of another project must exist already: set create = false."
  }

  validation {
    condition     = alltrue([for bucket in var.buckets : bucket.project == null || can(regex("^[a-z][a-z0-9-]{4,28}[a-z0-9]$", bucket.project))])
    error_message = "Give the id of a bucket's project (my-project-123), not its name or number."
  }

  validation {
    condition     = alltrue([for bucket in var.buckets : length(bucket.prefixes) > 0])
    error_message = "A bucket with an empty list of prefixes would have no notifications. Leave prefixes out for the whole bucket."
  }

  validation {
    condition     = alltrue([for bucket in var.buckets : length(bucket.prefixes) <= 10])
    error_message = "Cloud Storage allows ten notifications per bucket and event type, and each prefix needs a notification. Give fewer, shorter prefixes, or the whole bucket."
  }

  validation {
    condition = alltrue(flatten([
      for bucket in var.buckets : [
        for pair in setproduct(bucket.prefixes, bucket.prefixes) : pair[0] == pair[1] || !startswith(pair[1], pair[0])
      ]
    ]))
    error_message = "A prefix is the beginning of another prefix of the same bucket: Cloud Storage would refuse the second notification or send events twice. Remove the longer prefix."
  }
}

variable "registry" {
  description = "Registry of the container images that `images` leaves out; null: REGION-docker.pkg.dev/PROJECT/dropline, which must exist before the first apply. A registry of another project must grant `roles/artifactregistry.reader` to the Cloud Run service agent of this project (`service-NUMBER@serverless-robot-prod.iam.gserviceaccount.com`)."
  type        = string
  default     = null

  validation {
    condition     = var.registry == null || can(regex("^[a-z0-9-]+-docker\\.pkg\\.dev/[^/:@]+/[^/:@]+$", var.registry))
    error_message = "Give a repository of Artifact Registry as LOCATION-docker.pkg.dev/PROJECT/REPOSITORY: Terraform reads the digest behind each tag there. For images of another registry, set all of `images`, with digests."
  }
}

variable "images" {
  description = "Container images by digest (`…/worker@sha256:…`), or by tag in Artifact Registry (`LOCATION-docker.pkg.dev/PROJECT/REPOSITORY/NAME:TAG`): each plan reads the digest behind a tag, and the apply deploys the digest. The defaults are REGISTRY/function, REGISTRY/worker, REGISTRY/migrations and REGISTRY/gallery with the tag `image_tag`."
  type = object({
    function   = optional(string)
    worker     = optional(string)
    migrations = optional(string)
    gallery    = optional(string)
  })
  default  = {}
  nullable = false

  validation {
    condition = alltrue([
      for image in values(var.images) : image == null
      || can(regex("@sha256:[0-9a-f]{64}$", image))
      || can(regex("^[a-z0-9-]+-docker\\.pkg\\.dev/[^/:@]+/[^/:@]+/[^/:@]+:[^/:@]+$", image)) && !endswith(coalesce(image, "-"), ":latest")
    ])
    error_message = "Give each image by digest (REGISTRY/NAME@sha256:…), or by a tag other than latest in Artifact Registry (LOCATION-docker.pkg.dev/PROJECT/REPOSITORY/NAME:TAG). Terraform cannot read the digest behind a tag of another registry, and a tag can move to another image."
  }
}

variable "image_tag" {
  description = "Tag of the images that `images` leaves out: a version of Dropline. The digest behind the tag is deployed, so a tag that has moved shows as a change in the next plan."
  type        = string
  default     = "0.1.0"
  nullable    = false

  validation {
    condition     = can(regex("^[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}$", var.image_tag)) && var.image_tag != "latest"
    error_message = "Give a version such as 0.1.0, not latest: latest does not identify the running version."
  }
}

variable "default_task" {
  description = "Florence-2 task prompt of an object without a task prompt of its own; or several, as `<CAPTION>, <OD>`."
  type        = string
  default     = "<CAPTION>"
  nullable    = false
}

variable "task_by_prefix" {
  description = "Task prompt by object name prefix, or several; the longest prefix wins."
  type        = map(string)
  default     = {}
  nullable    = false
}

variable "max_size_bytes" {
  description = "Largest object in bytes; a larger object gets a `failed` row."
  type        = number
  default     = 50000000
  nullable    = false
}

variable "environment" {
  description = "Further settings of the function and the worker, DROPLINE_… (docs/settings.md)."
  type        = map(string)
  default     = {}
  nullable    = false

  validation {
    condition     = alltrue([for name in keys(var.environment) : can(regex("^DROPLINE_(BROKER|DATABASE|ENGINE|EVENTS|FETCH|GALLERY|IMAGES|LOG|METADATA|POOL|PUSH|RETENTION|SUBMIT|WORKER)__[A-Z_]+$", name))])
    error_message = "Setting names have the form DROPLINE_GROUP__NAME with a group from docs/settings.md."
  }

  validation {
    condition     = !anytrue([for name in keys(var.environment) : startswith(name, "DROPLINE_POOL__")])
    error_message = "Set scale to zero with worker_scale_to_zero and worker_sleep, not with DROPLINE_POOL__ settings: scaling also needs IAM roles."
  }

  validation {
    condition     = length(setintersection(keys(var.environment), ["DROPLINE_GALLERY__TOKENS", "DROPLINE_GALLERY__DATABASE_URL", "DROPLINE_GALLERY__IAP_AUDIENCE", "DROPLINE_GALLERY__IAP_SCOPES"])) == 0
    error_message = "Say with gallery who may use the gallery, not with DROPLINE_GALLERY__ settings: the account's rights follow from gallery.scopes."
  }
}

variable "function_instances" {
  description = "Minimum and maximum number of function instances."
  type = object({
    min = optional(number, 0)
    max = optional(number, 10)
  })
  default  = {}
  nullable = false
}

variable "worker_scale_to_zero" {
  description = "True: the worker pool scales to zero, at no cost, while the queue is empty. The function scales the worker pool up, the worker scales the worker pool to zero."
  type        = bool
  default     = true
  nullable    = false
}

variable "worker_sleep" {
  description = "Timings of worker_scale_to_zero in seconds. `idle_s`: time without work before the worker pool scales to zero; `lease_s`: time for which events are refused during the change to zero; `awake_s`: time for which the function assumes a running worker pool after a wake-up; `check_s`: time after a wake-up until the function checks that a worker is ready."
  type = object({
    idle_s  = optional(number, 300)
    lease_s = optional(number, 60)
    awake_s = optional(number, 600)
    check_s = optional(number, 300)
  })
  default  = {}
  nullable = false

  validation {
    condition     = var.worker_sleep.idle_s > 0 && var.worker_sleep.lease_s >= 30 && var.worker_sleep.awake_s > 0 && var.worker_sleep.check_s > 0 && var.worker_sleep.check_s <= 3600
    error_message = "idle_s and awake_s must be positive, check_s at most 3600, and lease_s at least 30 seconds: a call to Cloud Run must finish within the lease."
  }
}

variable "worker" {
  description = "The worker pool. `instances`: number of instances; with worker_scale_to_zero, the number after a wake-up. For a trial without a GPU set accelerator = \"none\"; fewer CPUs and less memory are then possible."
  type = object({
    accelerator = optional(string, "nvidia-l4")
    cpu         = optional(string, "4")
    memory      = optional(string, "16Gi")
    instances   = optional(number, 1)
    concurrency = optional(number, 16)
    checkpoint  = optional(string)
    revision    = optional(string)
  })
  default  = {}
  nullable = false
}

variable "database" {
  description = "Postgres: machine type, initial disk size in GB, standby in a second zone, connection limit. `existing`: a Cloud SQL instance to use instead of a new one, which may be of another project; the other values are then without effect. The instance needs Postgres 16 or newer, the flag `cloudsql.iam_authentication`, and a private address in the network. Terraform makes the database `database` in the instance, and logins; not the database with `has_database`, and not the logins in `has_logins`, which are there already: names in `database_readers` or `database_editors`, or `function`, `worker`, `migrator` and `gallery`."
  type = object({
    existing = optional(object({
      connection_name = string
      database        = optional(string, "dropline")
      has_database    = optional(bool, false)
      has_logins      = optional(set(string), [])
    }))
    tier             = optional(string, "db-custom-1-3840")
    disk_gb          = optional(number, 10)
    highly_available = optional(bool, false)
    max_connections  = optional(number, 200)
  })
  default  = {}
  nullable = false

  validation {
    condition = alltrue([
      for name in try(var.database.existing.has_logins, []) :
      contains(concat(keys(var.database_readers), keys(var.database_editors)), name) != contains(["function", "worker", "migrator", "gallery"], name)
    ])
    error_message = "Each name in has_logins must be one of database_readers or database_editors, or else one of function, worker, migrator and gallery. A person of such a name needs another name."
  }
}

variable "database_readers" {
  description = "E-mail addresses, in lower case, of people and service accounts with read access to captions in SQL, by a name of your choice."
  type        = map(string)
  default     = {}
  nullable    = false
}

variable "database_editors" {
  description = "E-mail addresses, in lower case, of people and service accounts that may also edit captions in SQL (docs/edit.md), by a name of your choice."
  type        = map(string)
  default     = {}
  nullable    = false
}

variable "gallery" {
  description = "The gallery (docs/gallery.md): page, JSON API and events. Either `members` whom Identity-Aware Proxy admits, such as `user:ana@example.com`, people of the organisation that the project belongs to; or `tokens`, for everyone else, as `dropline gallery token` prints them. `scopes`: what everyone whom the proxy admits may do, and the most that a token may. null: no gallery."
  type = object({
    members = optional(list(string), [])
    tokens  = optional(list(string), [])
    scopes  = optional(set(string), ["read", "submit", "edit"])
    instances = optional(object({
      min = optional(number, 0)
      max = optional(number, 3)
    }), {})
    memory = optional(string, "2Gi")
  })
  default = null
}

variable "redis" {
  description = "Redis. `tier`: STANDARD_HA has a standby in a second zone; BASIC, for a trial, costs less, and is away for minutes during maintenance (no image is lost: Postgres keeps the queue). `memory_gb`: memory in GiB. `existing`: a Redis to use instead of a new one, without another program's queue and with `maxmemory-policy` noeviction. `url_secret`: the secret with the URL, `projects/PROJECT/secrets/NAME`. `certificate_secret`: the secret with the certificate of the server's certificate authority, mounted as `/etc/dropline/redis/ca.pem`: the URL must name this file (`ssl_ca_certs`). null: a certificate of a public authority, or no encryption."
  type = object({
    existing = optional(object({
      url_secret         = string
      certificate_secret = optional(string)
    }))
    tier      = optional(string, "STANDARD_HA")
    memory_gb = optional(number, 1)
  })
  default  = {}
  nullable = false

  validation {
    condition     = contains(["STANDARD_HA", "BASIC"], var.redis.tier)
    error_message = "Give STANDARD_HA or BASIC."
  }

  validation {
    condition = var.redis.existing == null ? true : alltrue([
      for secret in compact([var.redis.existing.url_secret, var.redis.existing.certificate_secret]) :
      can(regex("^projects/[^/]+/secrets/[A-Za-z0-9_-]+$", secret))
    ])
    error_message = "Give the secrets of an existing Redis as projects/PROJECT/secrets/NAME, without a version: the URL has a password, which must not be in a variable."
  }
}

variable "retry" {
  description = "Redelivery of a refused event: back-off in seconds, and the number of delivery attempts before the event becomes a dead letter."
  type = object({
    minimum_backoff_s     = optional(number, 5)
    maximum_backoff_s     = optional(number, 600)
    max_delivery_attempts = optional(number, 50)
  })
  default  = {}
  nullable = false

  validation {
    condition     = !var.worker_scale_to_zero || var.retry.max_delivery_attempts >= 10
    error_message = "With scale to zero, events are refused during the change to zero instances: allow at least 10 delivery attempts."
  }

  validation {
    condition = !var.worker_scale_to_zero || sum([
      for attempt in range(9) : min(var.retry.maximum_backoff_s, var.retry.minimum_backoff_s * pow(2, attempt))
    ]) >= 2 * var.worker_sleep.lease_s
    error_message = "With scale to zero, the first ten delivery attempts must take longer than two leases (worker_sleep.lease_s): raise the back-off."
  }
}

variable "network" {
  description = "An existing network to use instead of a new one, for example the Shared VPC of a host project. `network`: `projects/PROJECT/global/networks/NAME`, with private services access (Postgres and Redis get their addresses from it). `subnetwork`: `projects/PROJECT/regions/REGION/subnetworks/NAME`, a subnetwork of at least /26 with Private Google Access. In another project, this project's Cloud Run service agent needs roles/compute.networkUser on the subnetwork. null: a new network."
  type = object({
    network    = string
    subnetwork = string
  })
  default = null

  validation {
    condition     = var.network == null ? true : can(regex("^projects/[^/]+/global/networks/[a-z0-9-]+$", var.network.network))
    error_message = "Give the network as projects/PROJECT/global/networks/NAME."
  }

  validation {
    condition     = var.network == null ? true : can(regex("^projects/[^/]+/regions/${var.region}/subnetworks/[a-z0-9-]+$", var.network.subnetwork))
    error_message = "Give the subnetwork as projects/PROJECT/regions/REGION/subnetworks/NAME, in the region of the deployment."
  }

  validation {
    condition     = var.network == null ? true : try(split("/", var.network.network)[1] == split("/", var.network.subnetwork)[1], true)
    error_message = "Network and subnetwork are of different projects. Give a subnetwork of the network."
  }
}

variable "network_cidr" {
  description = "IP range of the subnetwork for Cloud Run instances; without effect with an existing network."
  type        = string
  default     = "10.20.0.0/22"
  nullable    = false
}

variable "alert_emails" {
  description = "E-mail addresses that receive alerts; empty: alerts appear only in the console."
  type        = set(string)
  default     = []
  nullable    = false
}

variable "docs_url" {
  description = "Where the repository can be read, such as `https://github.com/ME/dropline/blob/main`, for the links of alerts to docs/operate.md; null: alerts name page and section."
  type        = string
  default     = null
}

variable "alert_thresholds" {
  description = "Alert thresholds: age of the oldest event in seconds, 5xx responses per second, seconds with accepted images but without captions."
  type = object({
    oldest_event_s = optional(number, 600)
    errors_per_s   = optional(number, 0.1)
    image_waits_s  = optional(number, 900)
  })
  default  = {}
  nullable = false
}

variable "budget" {
  description = "Monthly budget of the project for alerts; spending is not limited. In the currency of the billing account; `currency`, if set, must be the same. null: no budget."
  type = object({
    billing_account = string
    amount          = number
    currency        = optional(string)
  })
  default = null
}

variable "deletion_protection" {
  description = "True: buckets, Postgres and Redis cannot be deleted. False: `terraform destroy` deletes buckets, Postgres and Redis with all data."
  type        = bool
  default     = true
  nullable    = false
}
