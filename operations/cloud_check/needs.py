"""The needs of a deployment; tests compare the tables with `terraform/`, `tools/` and docs/deploy.md."""

#: Services that `make images` enables.
IMAGES_SERVICES = (
    "artifactregistry.googleapis.com",
    "cloudbuild.googleapis.com",
    "cloudresourcemanager.googleapis.com",
    "compute.googleapis.com",
    "serviceusage.googleapis.com",
    "storage.googleapis.com",
)
#: Services that Terraform enables besides.
TERRAFORM_SERVICES = (
    "cloudtasks.googleapis.com",
    "iam.googleapis.com",
    "logging.googleapis.com",
    "monitoring.googleapis.com",
    "pubsub.googleapis.com",
    "redis.googleapis.com",
    "run.googleapis.com",
    "secretmanager.googleapis.com",
    "servicenetworking.googleapis.com",
    "sqladmin.googleapis.com",
)
SERVICES = tuple(sorted((*IMAGES_SERVICES, *TERRAFORM_SERVICES)))

#: Permission of the caller → role with this permission, as in docs/deploy.md.
PERMISSIONS = {
    "serviceusage.services.enable": "roles/serviceusage.serviceUsageAdmin",
    "serviceusage.services.use": "roles/serviceusage.serviceUsageAdmin",
    "resourcemanager.projects.setIamPolicy": "roles/resourcemanager.projectIamAdmin",
    "iam.serviceAccounts.create": "roles/iam.serviceAccountAdmin",
    "iam.serviceAccounts.actAs": "roles/iam.serviceAccountUser",
    "iam.roles.create": "roles/iam.roleAdmin",
    "compute.networks.create": "roles/compute.networkAdmin",
    "storage.buckets.create": "roles/storage.admin",
    "pubsub.topics.create": "roles/pubsub.admin",
    "cloudtasks.queues.create": "roles/cloudtasks.admin",
    "run.services.create": "roles/run.admin",
    "run.jobs.create": "roles/run.admin",
    "run.workerpools.create": "roles/run.admin",
    "cloudsql.instances.create": "roles/cloudsql.admin",
    "redis.instances.create": "roles/redis.admin",
    "secretmanager.secrets.create": "roles/secretmanager.admin",
    "monitoring.alertPolicies.create": "roles/monitoring.editor",
    "logging.logMetrics.create": "roles/logging.configWriter",
    "artifactregistry.repositories.create": "roles/artifactregistry.admin",
    "cloudbuild.builds.create": "roles/cloudbuild.builds.editor",
    "logging.logEntries.list": "roles/logging.viewer",
}

#: The quota of GPUs of worker pools without zonal redundancy, per region.
GPU_QUOTA = "NvidiaL4GpuAllocNoZonalRedundancyPerProjectRegion"
#: Regions with L4 GPUs in Cloud Run, as docs/deploy.md has them; the quota's own list goes before.
GPU_REGIONS = ("asia-southeast1", "europe-west1", "europe-west4")
