/*
 * jobs.h - parts of the job's objects, for whoever else tells of them.
 */
#ifndef ACCRETED_SERVER_API_JOBS_H
#define ACCRETED_SERVER_API_JOBS_H

#include <jansson.h>

#include "core/learner/learner.h"

/* One epoch of a job's curves. New reference. */
json_t *epoch_json(const struct learner_epoch *e);

#endif
