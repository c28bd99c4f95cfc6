/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Format of the file and the steps from one to the next. A step is one transaction together with
 * the new number, so a power cut leaves the old or the new format. Runs where the file is opened.
 */
#include <stdio.h>

#include "store/db.h"
#include "store/store_sql.h"

const struct kei_step kei_steps[] = {{1, KEI_SQL_STEP_1}};
const size_t kei_n_steps = sizeof kei_steps / sizeof kei_steps[0];

_Static_assert(sizeof kei_steps / sizeof kei_steps[0] == KEI_FORMAT, "KEI_FORMAT is the last step");

static int run_step(struct kei_db *db, const struct kei_step *step, struct ke_error *err)
{
    char number[96];
    (void)snprintf(number, sizeof number, "PRAGMA user_version = %d; PRAGMA application_id = %d",
                   step->version, KEI_FORMAT_ID(step->version));
    int r = kei_db_begin(db, err);
    if (r < 0)
        return r;
    r = kei_db_exec(db, step->sql, err, "could not bring to its new format");
    if (r == 0)
        r = kei_db_exec(db, number, err, "could not bring to its new format");
    if (r < 0) {
        kei_db_rollback(db);
        return r;
    }
    return kei_db_commit(db, err);
}

int kei_migrate(struct kei_db *db, const struct kei_step *steps, size_t n, struct ke_error *err)
{
    int64_t have = 0;
    int r = kei_db_int(db, "PRAGMA user_version", &have, err);
    if (r == 0 && have > steps[n - 1].version)
        return kei_error(err, KE_ENEWER,
                         "the store in %s has format %lld, written by a newer release: use that "
                         "one (this one knows format %d); nothing was changed",
                         db->conf->folder, (long long)have, steps[n - 1].version);
    for (size_t i = 0; r == 0 && i < n; i++)
        if (steps[i].version > have)
            r = run_step(db, &steps[i], err);
    return r;
}
