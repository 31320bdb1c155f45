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

variable "worker_image" {
  description = "The worker's image with a larger checkpoint baked in, so that a start asks no hub."
  type        = string
}

variable "analysts" {
  description = "E-mails of those who may read captions with SQL, by any name."
  type        = map(string)
  default     = {}
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
