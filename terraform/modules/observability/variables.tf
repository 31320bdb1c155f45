variable "project" {
  description = "Project that everything is created in."
  type        = string
}

variable "project_number" {
  description = "The project's number, for the budget."
  type        = string
}

variable "name" {
  description = "Beginning of all names."
  type        = string
}

variable "labels" {
  description = "Labels of alerts and channels."
  type        = map(string)
  default     = {}
}

variable "emails" {
  description = "Who is told; empty: alerts show in the console only."
  type        = set(string)
  default     = []

  validation {
    condition     = alltrue([for email in var.emails : can(regex("^[^@ ]+@[^@ ]+$", email))])
    error_message = "Give e-mail addresses."
  }
}

variable "push_subscription" {
  description = "Name of the push subscription."
  type        = string
}

variable "dead_letter_subscription" {
  description = "Name of the subscription that keeps the dead letters."
  type        = string
}

variable "function_service" {
  description = "Name of the function's Cloud Run service."
  type        = string
}

variable "worker_pool" {
  description = "Name of the worker pool."
  type        = string
}

variable "pool_idle_s" {
  description = "Seconds without work after which the worker pool sleeps; null: it never does."
  type        = number
  default     = null
}

variable "redis_instance" {
  description = "Name of the Redis instance."
  type        = string
}

variable "database_instance" {
  description = "Name of the Cloud SQL instance."
  type        = string
}

variable "thresholds" {
  description = "When to alert: age of the oldest event in seconds, 5xx per second, seconds in which images were accepted and none was captioned."
  type = object({
    oldest_event_s = optional(number, 600)
    errors_per_s   = optional(number, 0.1)
    image_waits_s  = optional(number, 900)
  })
  default = {}

  validation {
    condition     = var.thresholds.image_waits_s >= 600 && var.thresholds.image_waits_s % 60 == 0
    error_message = "An image may wait for the start of a GPU: give whole minutes, at least ten (600)."
  }
}

variable "budget" {
  description = "Monthly budget that is watched, not enforced, in the billing account's currency, which `currency` may only repeat; null: none. Needs rights on the billing account."
  type = object({
    billing_account = string
    amount          = number
    currency        = optional(string)
  })
  default = null

  validation {
    condition     = var.budget == null || try(var.budget.amount >= 1 && floor(var.budget.amount) == var.budget.amount, false)
    error_message = "The amount is a whole number of at least 1."
  }

  validation {
    condition     = var.budget == null || length(var.emails) <= 5
    error_message = "A budget tells five e-mail addresses at most; give a list's address."
  }
}
