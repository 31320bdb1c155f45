variable "project" {
  description = "Project that the buckets are created in."
  type        = string
}

variable "location" {
  description = "Location of a bucket that names none."
  type        = string
}

variable "labels" {
  description = "Labels of the buckets."
  type        = map(string)
  default     = {}
}

variable "buckets" {
  description = "Buckets whose images are captioned; `create = false` for one that exists already."
  type = list(object({
    name          = string
    create        = optional(bool, true)
    location      = optional(string)
    storage_class = optional(string, "STANDARD")
  }))

  validation {
    condition     = length(var.buckets) > 0 && length(distinct(var.buckets[*].name)) == length(var.buckets)
    error_message = "Name at least one bucket, and each only once."
  }

  validation {
    condition     = alltrue([for bucket in var.buckets : can(regex("^[a-z0-9][a-z0-9_.-]{1,220}[a-z0-9]$", bucket.name))])
    error_message = "A bucket's name has lower case letters, digits, dashes, underscores and dots; leave out gs://."
  }
}

variable "soft_delete_days" {
  description = "Days in which a deleted object can be restored; 0 switches that off."
  type        = number
  default     = 7

  validation {
    condition     = var.soft_delete_days == 0 || (var.soft_delete_days >= 7 && var.soft_delete_days <= 90)
    error_message = "Cloud Storage takes 0, or 7 to 90 days."
  }
}

variable "deletion_protection" {
  description = "Whether Terraform refuses to delete a bucket. Without it, a bucket goes with all its objects."
  type        = bool
  default     = true
}
