variable "project" {
  description = "Project of all resources."
  type        = string
}

variable "pubsub_agent" {
  description = "Pub/Sub's service agent of this project, as an IAM member; it must exist."
  type        = string

  validation {
    condition     = startswith(var.pubsub_agent, "serviceAccount:")
    error_message = "Give the service agent as an IAM member: serviceAccount:…@gcp-sa-pubsub.iam.gserviceaccount.com."
  }
}

variable "name" {
  description = "Prefix of all resource names."
  type        = string
}

variable "labels" {
  description = "Labels of topics and subscriptions."
  type        = map(string)
  default     = {}
}

variable "sources" {
  description = "Sources of events: buckets, and prefixes of object names (empty: all objects)."
  type = list(object({
    bucket = string
    prefix = optional(string, "")
  }))

  validation {
    condition     = length(var.sources) == length(distinct([for source in var.sources : "${source.bucket}/${source.prefix}"]))
    error_message = "A bucket and prefix are given twice: a second notification would send every event twice. Remove the duplicate."
  }

  validation {
    condition     = alltrue([for source in var.sources : length(source.prefix) <= 1024 && !can(regex("[\\r\\n]", source.prefix))])
    error_message = "A prefix is the beginning of object names, such as photos/: of at most 1024 characters, without line breaks."
  }
}

variable "storage_agent" {
  description = "Cloud Storage service agent of this project, as an IAM member."
  type        = string

  validation {
    condition     = startswith(var.storage_agent, "serviceAccount:")
    error_message = "Give the service agent as an IAM member: serviceAccount:…@gs-project-accounts.iam.gserviceaccount.com."
  }
}

variable "storage_agents_elsewhere" {
  description = "Cloud Storage service agents of other projects with buckets, as IAM members, by project."
  type        = map(string)
  default     = {}

  validation {
    condition     = alltrue([for agent in values(var.storage_agents_elsewhere) : startswith(agent, "serviceAccount:")])
    error_message = "Give each service agent as an IAM member: serviceAccount:…@gs-project-accounts.iam.gserviceaccount.com."
  }
}

variable "push_endpoint" {
  description = "Push endpoint: the URL of the function."
  type        = string

  validation {
    condition     = startswith(var.push_endpoint, "https://")
    error_message = "Give an HTTPS URL: Pub/Sub pushes to HTTPS only."
  }
}

variable "push_service_account" {
  description = "E-mail address of the push service account, which may invoke the function with events."
  type        = string
}

variable "push_audience" {
  description = "Audience of the push tokens; the function needs the same value."
  type        = string
}

variable "ack_deadline_s" {
  description = "Time limit of a push request in seconds. The function responds within 3 seconds, and within 13 if it wakes the worker pool."
  type        = number
  default     = 30

  validation {
    condition     = var.ack_deadline_s >= 15 && var.ack_deadline_s <= 600 && floor(var.ack_deadline_s) == var.ack_deadline_s
    error_message = "Give 15 to 600 whole seconds: the function may need 13 to wake the worker pool, and 600 is the limit of Pub/Sub."
  }
}

variable "retry" {
  description = "Redelivery of a refused event: back-off in seconds, and the number of delivery attempts before the event becomes a dead letter."
  type = object({
    minimum_backoff_s     = optional(number, 5)
    maximum_backoff_s     = optional(number, 600)
    max_delivery_attempts = optional(number, 50)
  })
  default = {}

  validation {
    condition     = var.retry.max_delivery_attempts >= 5 && var.retry.max_delivery_attempts <= 100 && floor(var.retry.max_delivery_attempts) == var.retry.max_delivery_attempts
    error_message = "Give 5 to 100 delivery attempts, as a whole number: the limits of Pub/Sub."
  }

  validation {
    condition     = 0 <= var.retry.minimum_backoff_s && var.retry.minimum_backoff_s <= var.retry.maximum_backoff_s && var.retry.maximum_backoff_s <= 600
    error_message = "The minimum back-off must not exceed the maximum, and the maximum must not exceed 600 seconds."
  }
}
