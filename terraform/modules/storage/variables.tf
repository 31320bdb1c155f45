variable "project" {
  description = "Project of the buckets."
  type        = string
}

variable "location" {
  description = "Location of a bucket without a location of its own."
  type        = string
}

variable "labels" {
  description = "Labels of the buckets."
  type        = map(string)
  default     = {}
}

variable "buckets" {
  description = "Buckets whose images are captioned; `create = false` for an existing bucket."
  type = list(object({
    name          = string
    create        = optional(bool, true)
    location      = optional(string)
    storage_class = optional(string, "STANDARD")
  }))

  validation {
    condition     = length(var.buckets) > 0 && length(distinct(var.buckets[*].name)) == length(var.buckets)
    error_message = "Give at least one bucket, and each bucket only once."
  }

  validation {
    condition     = alltrue([for bucket in var.buckets : can(regex("^[a-z0-9][a-z0-9_.-]{1,220}[a-z0-9]$", bucket.name))])
    error_message = "A bucket name consists of lower case letters, digits, dashes, underscores and dots. Give the name without gs://."
  }

  validation {
    condition     = alltrue([for bucket in var.buckets : !bucket.create || length(bucket.name) <= (strcontains(bucket.name, ".") ? 222 : 63) && !startswith(bucket.name, "goog") && !strcontains(bucket.name, "google")])
    error_message = "Cloud Storage refuses a bucket name of more than 63 characters (222 with dots), one that begins with goog, and one that contains google."
  }

  validation {
    condition     = alltrue([for bucket in var.buckets : contains(["STANDARD", "NEARLINE", "COLDLINE", "ARCHIVE"], bucket.storage_class)])
    error_message = "Give the storage class STANDARD, NEARLINE, COLDLINE or ARCHIVE."
  }

  validation {
    condition     = alltrue([for bucket in var.buckets : can(regex("^[A-Za-z]+(-[A-Za-z]+[0-9]+)?[0-9]*$", coalesce(bucket.location, "EU")))])
    error_message = "Give a location of buckets, such as EU, EUR4 or europe-west4, not a zone."
  }
}

variable "soft_delete_days" {
  description = "Days for which a deleted object can be restored; 0: no restore."
  type        = number
  default     = 7

  validation {
    condition     = var.soft_delete_days == 0 || (var.soft_delete_days >= 7 && var.soft_delete_days <= 90 && floor(var.soft_delete_days) == var.soft_delete_days)
    error_message = "Give 0, or 7 to 90 whole days, the limits of Cloud Storage."
  }
}

variable "deletion_protection" {
  description = "True: Terraform refuses to delete a bucket. False: Terraform deletes a bucket with all objects."
  type        = bool
  default     = true
}
