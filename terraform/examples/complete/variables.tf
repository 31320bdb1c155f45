variable "project" {
  description = "Project of the deployment."
  type        = string
}

variable "region" {
  description = "Region of every resource."
  type        = string
  default     = "europe-west4"
}

variable "existing_bucket" {
  description = "An existing bucket of the project with images."
  type        = string
}

variable "worker_image" {
  description = "Worker image with a larger checkpoint inside, so that a start needs no download from the model hub."
  type        = string
}

variable "analysts" {
  description = "E-mail addresses of people and service accounts with read access to captions in SQL, by a name of your choice."
  type        = map(string)
  default     = {}
}

variable "on_call" {
  description = "E-mail address that receives alerts."
  type        = string
}

variable "billing_account" {
  description = "Billing account of the budget; null: no budget."
  type        = string
  default     = null
}
