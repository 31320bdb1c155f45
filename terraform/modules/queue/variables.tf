variable "project" {
  description = "Project of all resources."
  type        = string
}

variable "region" {
  description = "Region of Redis."
  type        = string
}

variable "name" {
  description = "Name of the instance, and prefix of the other resource names."
  type        = string
}

variable "labels" {
  description = "Labels of every resource that supports labels."
  type        = map(string)
  default     = {}
}

variable "network" {
  description = "Id of the network of Redis; private services access must be configured."
  type        = string
}

variable "tier" {
  description = "STANDARD_HA: a standby in a second zone. BASIC: none, for a trial."
  type        = string
  default     = "STANDARD_HA"

  validation {
    condition     = contains(["STANDARD_HA", "BASIC"], var.tier)
    error_message = "Give STANDARD_HA or BASIC."
  }
}

variable "memory_gb" {
  description = "Memory of Redis, in GiB. At most 2,000 messages wait, of about one kilobyte each."
  type        = number
  default     = 1

  validation {
    condition     = var.memory_gb >= 1 && var.memory_gb <= 300 && floor(var.memory_gb) == var.memory_gb
    error_message = "Give whole gibibytes, 1 to 300, the limits of Memorystore."
  }
}

variable "readers" {
  description = "E-mail addresses of the service accounts with access to the URL, the password and the certificate, by a name of your choice."
  type        = map(string)
}

variable "deletion_protection" {
  description = "True: Terraform refuses to delete Redis."
  type        = bool
  default     = true
}
