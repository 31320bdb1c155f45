"""Changes of the gallery in `terraform/` that break a policy of `gallery_policies.py`, or one of all plans."""

from tests.terraform import gallery_policies, policies, run_policies, sleep_policies
from tests.terraform.mutation import Mutation

_SERVICE = "gallery/main.tf"
_RIGHTS = "gallery/iam.tf"

GALLERY_MUTATIONS = (
    Mutation(gallery_policies.every_request_is_checked, _SERVICE, "= local.has_iap\n", "= false\n"),
    Mutation(gallery_policies.every_request_is_checked, _SERVICE, "= !local.has_iap", "= true"),
    Mutation(gallery_policies.every_request_is_checked, _RIGHTS, "@gcp-sa-iap.", "@gcp-sa-pubsub."),
    Mutation(
        gallery_policies.every_request_is_checked, _SERVICE, "/services/${var.name}-gallery", "/services/other"
    ),
    Mutation(
        gallery_policies.nobody_is_admitted_by_default,
        _RIGHTS,
        "  member                 = each.value",
        '  member = "allAuthenticatedUsers"',
    ),
    Mutation(
        gallery_policies.rights_follow_the_scopes,
        _RIGHTS,
        'local.may_edit ? ["storage.objects.list"]',
        'true ? ["storage.objects.list"]',
    ),
    Mutation(
        gallery_policies.rights_follow_the_scopes,
        "database/further.tf",
        'var.gallery.writes ? "dropline_gallery"',
        'var.gallery.writes ? "dropline_ingest"',
    ),
    Mutation(
        gallery_policies.a_removed_gallery_loses_its_login,
        "database/further.tf",
        'var.deletion_protection ? "DELETE" : "ABANDON"',
        'var.deletion_protection ? null : "ABANDON"',
    ),
    Mutation(
        policies.storage_rights_are_narrow,
        _RIGHTS,
        '"projects/${var.project}/roles/${google_project_iam_custom_role.gallery.role_id}"',
        '"roles/storage.objectUser"',
    ),
    Mutation(
        gallery_policies.rights_follow_the_scopes,
        _RIGHTS,
        "  bucket = local.upload_bucket\n",
        '  bucket = "another"\n',
    ),
    Mutation(
        gallery_policies.rights_follow_the_scopes,
        "gallery.tf",
        "module.worker.wake_settings : {}",
        "module.worker.pool_settings : {}",
    ),
    *(
        Mutation(gallery_policies.redis_is_for_who_sends_messages, file, old, new)
        for file, old, new in (
            ("existing.tf", "local.gallery_writes ? { gallery", "!local.gallery_writes ? { gallery"),
            ("gallery.tf", "local.gallery_writes ? local.redis.certificate", "false ? local.redis.certificate"),
        )
    ),
    Mutation(run_policies.a_service_starts_with_its_network, _SERVICE, 'path = "/started"', 'path = "/healthz"'),
    Mutation(sleep_policies.scalers_change_one_pool_only, "main.tf", "  wakers = local.gallery_wakes\n", ""),
    Mutation(
        sleep_policies.scalers_change_one_pool_only,
        "main.tf",
        "  scalers = var.worker_scale_to_zero ? {\n",
        "  scalers = var.worker_scale_to_zero ? {\n    door = google_service_account.gallery[0].email\n",
    ),
)
