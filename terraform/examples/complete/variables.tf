variable "project" {
  description = "Project that Dropline lives in."
  type        = string
}

variable "region" {
  description = "Region of everything."
  type        = string
  default     = "europe-west4"
}

variable "existing_bucket" {
  description = "A bucket of the project that holds images already."
  type        = string
}

variable "model_revision" {
  description = "Commit of the checkpoint on the hub, so that all instances run the same one."
  type        = string

  validation {
    condition     = can(regex("^[0-9a-f]{40}$", var.model_revision))
    error_message = "Give a commit's 40 digits, not the name of a branch: what runs must not change by itself."
  }
}

variable "analysts" {
  description = "E-mails of those who may read captions with SQL."
  type        = set(string)
  default     = []
}

variable "on_call" {
  description = "E-mail of whoever is told of alerts."
  type        = string
}

variable "billing_account" {
  description = "Billing account that the budget is set on; null: no budget."
  type        = string
  default     = null
}
