variable "project" {
  description = "Project that everything is created in."
  type        = string
}

variable "region" {
  description = "Region of the subnetwork."
  type        = string
}

variable "name" {
  description = "Name of the network, and the beginning of the other names."
  type        = string
}

variable "labels" {
  description = "Labels of everything that can have some."
  type        = map(string)
  default     = {}
}

variable "cidr" {
  description = "Range of the subnetwork: Cloud Run takes up to four addresses for each instance."
  type        = string
  default     = "10.20.0.0/22"

  validation {
    condition     = can(cidrhost(var.cidr, 0)) && try(tonumber(split("/", var.cidr)[1]) <= 26, false)
    error_message = "The range must be CIDR of at least /26, for example 10.20.0.0/22: Cloud Run refuses a smaller one."
  }
}

variable "flow_sampling" {
  description = "Share of the subnetwork's flows that is logged, 0 to 1."
  type        = number
  default     = 0.1

  validation {
    condition     = var.flow_sampling >= 0 && var.flow_sampling <= 1
    error_message = "The share must be between 0 (none) and 1 (all)."
  }
}
