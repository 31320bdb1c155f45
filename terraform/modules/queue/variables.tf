variable "project" {
  description = "Project that everything is created in."
  type        = string
}

variable "region" {
  description = "Region of Redis."
  type        = string
}

variable "name" {
  description = "Name of the instance, and the beginning of the other names."
  type        = string
}

variable "labels" {
  description = "Labels of everything that can have some."
  type        = map(string)
  default     = {}
}

variable "network" {
  description = "Id of the network that Redis has its address in; its private services must be connected."
  type        = string
}

variable "memory_gb" {
  description = "Memory of Redis, in GiB. A waiting image takes about a kilobyte."
  type        = number
  default     = 1

  validation {
    condition     = var.memory_gb >= 1 && var.memory_gb <= 300 && floor(var.memory_gb) == var.memory_gb
    error_message = "Memorystore takes whole gibibytes, 1 to 300."
  }
}

variable "readers" {
  description = "E-mails of the service accounts that may read address, password and certificate, by any name."
  type        = map(string)
}

variable "deletion_protection" {
  description = "Whether Terraform refuses to delete Redis."
  type        = bool
  default     = true
}
