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

#: Regions with Cloud Tasks (Cloud Tasks' page on its locations); Cloud Tasks' own list goes before.
TASKS_REGIONS = (
    "asia-east1",
    "asia-east2",
    "asia-northeast1",
    "asia-northeast2",
    "asia-northeast3",
    "asia-south1",
    "asia-southeast1",
    "asia-southeast2",
    "australia-southeast1",
    "europe-central2",
    "europe-west1",
    "europe-west2",
    "europe-west3",
    "europe-west6",
    "northamerica-northeast1",
    "southamerica-east1",
    "us-central1",
    "us-east1",
    "us-east4",
    "us-west1",
    "us-west2",
    "us-west3",
    "us-west4",
)
#: Region of Cloud Run without Cloud Tasks → region of the queue, as in Terraform's module `worker`.
NEAR_TASKS_REGION = {
    "africa-south1": "europe-west1",
    "asia-south2": "asia-south1",
    "australia-southeast2": "australia-southeast1",
    "europe-north1": "europe-central2",
    "europe-north2": "europe-central2",
    "europe-southwest1": "europe-west1",
    "europe-west10": "europe-west3",
    "europe-west12": "europe-west3",
    "europe-west4": "europe-west1",
    "europe-west8": "europe-west3",
    "europe-west9": "europe-west1",
    "me-central1": "asia-south1",
    "me-central2": "asia-south1",
    "me-west1": "europe-central2",
    "northamerica-northeast2": "northamerica-northeast1",
    "northamerica-south1": "us-central1",
    "southamerica-west1": "southamerica-east1",
    "us-east5": "us-east4",
    "us-south1": "us-central1",
}
#: Region of a queue → the locations that the policy `gcp.resourceLocations` must allow, where they are several.
TASKS_LOCATIONS = {"us-central1": ("us-central1", "us-central2")}
