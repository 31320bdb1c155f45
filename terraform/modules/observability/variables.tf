variable "project" {
  description = "Project of all resources."
  type        = string
}

variable "project_number" {
  description = "Number of the project, for the budget."
  type        = string
}

variable "name" {
  description = "Prefix of all resource names."
  type        = string
}

variable "labels" {
  description = "Labels of alerts and channels."
  type        = map(string)
  default     = {}
}

variable "emails" {
  description = "E-mail addresses that receive alerts; empty: alerts appear only in the console."
  type        = set(string)
  default     = []

  validation {
    condition     = alltrue([for email in var.emails : can(regex("^[^@ ]+@[^@ ]+$", email))])
    error_message = "Give valid e-mail addresses."
  }
}

variable "docs_url" {
  description = "Where the repository can be read, such as `https://github.com/ME/dropline/blob/main`, for the links of alerts; null: alerts name page and section."
  type        = string
  default     = null

  validation {
    condition     = can(regex("^https?://[^ ]+$", coalesce(var.docs_url, "https://example.com")))
    error_message = "Give an address, as https://github.com/ME/dropline/blob/main."
  }
}

variable "push_subscription" {
  description = "Name of the push subscription."
  type        = string
}

variable "dead_letter_subscription" {
  description = "Name of the subscription with the dead letters."
  type        = string
}

variable "function_service" {
  description = "Name of the function's Cloud Run service."
  type        = string
}

variable "gallery_service" {
  description = "Name of the gallery's Cloud Run service; null: no gallery, and no alert on it."
  type        = string
  default     = null
}

variable "worker_pool" {
  description = "Name of the worker pool."
  type        = string
}

variable "pool_idle_s" {
  description = "Time without work, in seconds, before the worker pool scales to zero; null: no scale to zero."
  type        = number
  default     = null
}

variable "redis_instance" {
  description = "Name of the Redis instance; null: no alert, an existing instance has alerts of its owner."
  type        = string
  default     = null
}

variable "database_instance" {
  description = "Name of the Cloud SQL instance; null: no alert, an existing instance has alerts of its owner."
  type        = string
  default     = null
}

variable "thresholds" {
  description = "Alert thresholds: age of the oldest event in seconds, 5xx responses per second, seconds with accepted images but without captions."
  type = object({
    oldest_event_s = optional(number, 600)
    errors_per_s   = optional(number, 0.1)
    image_waits_s  = optional(number, 900)
  })
  default = {}

  validation {
    condition     = var.thresholds.image_waits_s >= 600 && var.thresholds.image_waits_s % 60 == 0
    error_message = "Give image_waits_s in whole minutes, at least ten (600): an image may wait for the start of a GPU."
  }

  validation {
    condition     = var.thresholds.oldest_event_s > 0 && var.thresholds.errors_per_s >= 0
    error_message = "oldest_event_s must be positive, and errors_per_s not negative."
  }
}

variable "budget" {
  description = "Monthly budget for alerts; spending is not limited. In the currency of the billing account; `currency`, if set, must be the same. null: no budget. A budget needs rights on the billing account."
  type = object({
    billing_account = string
    amount          = number
    currency        = optional(string)
  })
  default = null

  validation {
    condition     = var.budget == null || try(var.budget.amount >= 1 && floor(var.budget.amount) == var.budget.amount, false)
    error_message = "Give the amount as a whole number of at least 1."
  }

  validation {
    condition     = var.budget == null || length(var.emails) <= 5
    error_message = "A budget notifies at most five e-mail addresses. Give the address of a mailing list."
  }

  validation {
    condition     = can(regex("^[0-9A-F]{6}-[0-9A-F]{6}-[0-9A-F]{6}$", try(var.budget.billing_account, "000000-000000-000000")))
    error_message = "Give the id of the billing account, such as 01ABCD-234567-89EFAB, as gcloud billing accounts list shows it."
  }

  validation {
    condition     = can(regex("^[A-Z]{3}$", coalesce(try(var.budget.currency, null), "EUR")))
    error_message = "Give the currency by its three capital letters, such as EUR."
  }
}
