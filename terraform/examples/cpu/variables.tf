variable "project" {
  description = "Project of the deployment."
  type        = string
}

variable "region" {
  description = "Region of every resource; any region of Cloud Run."
  type        = string
  default     = "europe-west4"
}

variable "redis" {
  description = "Redis, as in the root module; { tier = \"BASIC\" } for a trial."
  type = object({
    tier      = optional(string, "STANDARD_HA")
    memory_gb = optional(number, 1)
  })
  default = {}
}
