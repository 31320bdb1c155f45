variable "project" {
  description = "Project that everything is created in."
  type        = string
}

variable "project_number" {
  description = "The project's number: it is in the name of Pub/Sub's service agent."
  type        = string
}

variable "name" {
  description = "Beginning of all names."
  type        = string
}

variable "labels" {
  description = "Labels of topics and subscriptions."
  type        = map(string)
  default     = {}
}

variable "sources" {
  description = "What is listened to: buckets, and the beginning of the object names (empty: all)."
  type = list(object({
    bucket = string
    prefix = optional(string, "")
  }))

  validation {
    condition     = length(var.sources) == length(distinct([for source in var.sources : "${source.bucket}/${source.prefix}"]))
    error_message = "Each bucket and prefix may be named once: a second notification would bring every event twice."
  }
}

variable "storage_agent" {
  description = "Cloud Storage's service agent of the project that the buckets are in, as an IAM member."
  type        = string

  validation {
    condition     = startswith(var.storage_agent, "serviceAccount:")
    error_message = "The agent is given as an IAM member: serviceAccount:…@gs-project-accounts.iam.gserviceaccount.com."
  }
}

variable "push_endpoint" {
  description = "Address that events are pushed to: the function's."
  type        = string

  validation {
    condition     = startswith(var.push_endpoint, "https://")
    error_message = "Pub/Sub pushes to HTTPS addresses only."
  }
}

variable "push_service_account" {
  description = "E-mail of the service account that pushes; nobody else may invoke the function."
  type        = string
}

variable "push_audience" {
  description = "Audience of the push tokens; the function expects the same."
  type        = string
}

variable "ack_deadline_s" {
  description = "Seconds that a push request may take. The function answers within 3."
  type        = number
  default     = 30

  validation {
    condition     = var.ack_deadline_s >= 10 && var.ack_deadline_s <= 600
    error_message = "Pub/Sub takes 10 to 600 seconds."
  }
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
    condition     = var.retry.max_delivery_attempts >= 5 && var.retry.max_delivery_attempts <= 100
    error_message = "Pub/Sub takes 5 to 100 delivery attempts."
  }

  validation {
    condition     = 0 <= var.retry.minimum_backoff_s && var.retry.minimum_backoff_s <= var.retry.maximum_backoff_s && var.retry.maximum_backoff_s <= 600
    error_message = "The back-off grows from its minimum to its maximum, of at most 600 seconds."
  }
}
