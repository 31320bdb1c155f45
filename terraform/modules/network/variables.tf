variable "project" {
  description = "Project of all resources."
  type        = string
}

variable "region" {
  description = "Region of the subnetwork."
  type        = string
}

variable "name" {
  description = "Name of the network, and prefix of the other resource names."
  type        = string
}

variable "labels" {
  description = "Labels of every resource that supports labels."
  type        = map(string)
  default     = {}
}

variable "cidr" {
  description = "IP range of the subnetwork. Cloud Run uses up to four addresses per instance."
  type        = string
  default     = "10.20.0.0/22"

  validation {
    condition     = can(cidrhost(var.cidr, 0)) && try(tonumber(split("/", var.cidr)[1]) <= 26, false)
    error_message = "Give a CIDR range of at least /26, for example 10.20.0.0/22: Cloud Run refuses a smaller range."
  }

  validation {
    condition     = can(regex("^[0-9.]+/[0-9]+$", var.cidr)) && try(cidrhost(var.cidr, 0) == split("/", var.cidr)[0] && tonumber(split("/", var.cidr)[1]) >= 8, false)
    error_message = "Give the first address of an IPv4 range of at most /8, for example 10.20.0.0/22 and not 10.20.0.1/22: Google refuses any other."
  }
}

variable "flow_sampling" {
  description = "Logged share of the subnetwork's flows, 0 to 1."
  type        = number
  default     = 0.1

  validation {
    condition     = var.flow_sampling >= 0 && var.flow_sampling <= 1
    error_message = "The share must be between 0 (none) and 1 (all)."
  }
}
