"""Mutations for the policies of a fresh project."""

from tests.terraform import fresh_policies
from tests.terraform.mutation import Mutation

FRESH_MUTATIONS = (
    Mutation(fresh_policies.what_takes_minutes_is_waited_for, "events/iam.tf", '"120s"', '"10s"'),
    Mutation(
        fresh_policies.what_takes_minutes_is_waited_for,
        "services.tf",
        'create_duration = "90s"\n  triggers        = { of = "services"',
        'create_duration = "90s"\n  triggers        = { of = "nothing"',
    ),
    Mutation(
        fresh_policies.agents_exist_before_their_roles,
        "main.tf",
        'google_project_service_identity.this["pubsub.googleapis.com"].member',
        '"serviceAccount:service-${local.project_number}@gcp-sa-cloudtasks.iam.gserviceaccount.com"',
    ),
)
