variable "project" {
  description = "Project of the deployment."
  type        = string
}

variable "region" {
  description = "Region of every resource, of the subnetwork too. The default worker needs a region with L4 GPUs in Cloud Run."
  type        = string
  default     = "europe-west4"
}

variable "tasks_region" {
  description = "Region of the queue of Cloud Tasks, as in the root module; null: the region, or a near one where Cloud Tasks does not exist in the region."
  type        = string
  default     = null
}

variable "host_project" {
  description = "Host project of the Shared VPC; the deployment's project, if the network is there."
  type        = string
}

variable "network" {
  description = "Name of the network, which has private services access."
  type        = string
}

variable "subnetwork" {
  description = "Name of a subnetwork in the region, of at least /26, with Private Google Access."
  type        = string
}

variable "postgres" {
  description = "Connection name of a Cloud SQL instance in the network, PROJECT:REGION:NAME."
  type        = string
}

variable "redis_url_secret" {
  description = "Secret with the URL of a Redis in the network, projects/PROJECT/secrets/NAME."
  type        = string
}

variable "redis_certificate_secret" {
  description = "Secret with the certificate of the Redis server's certificate authority, projects/PROJECT/secrets/NAME; null: no certificate is mounted."
  type        = string
  default     = null
}

variable "data_project" {
  description = "Project of the buckets."
  type        = string
}

variable "buckets" {
  description = "Names of existing buckets."
  type        = list(string)
}
