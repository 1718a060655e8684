/*
 * api.h - the handlers behind the route table (routes.c), one file a resource.
 *
 * Each is called once on the loop with the whole body, and replies once: at once, or later from the
 * loop.
 */
#ifndef ACCRETED_SERVER_API_API_H
#define ACCRETED_SERVER_API_API_H

struct request;

/* batches.c */
void api_batches_put(struct request *req);
void api_batches_post(struct request *req);
void api_batches_list(struct request *req);
void api_batches_get(struct request *req);

/* batches_delete.c */
void api_batches_delete(struct request *req);

/* jobs.c */
void api_jobs_post(struct request *req);
void api_jobs_list(struct request *req);
void api_jobs_get(struct request *req);
void api_jobs_cancel(struct request *req);
void api_jobs_metrics(struct request *req);
void api_jobs_retry(struct request *req);

/* job_logs.c */
void api_jobs_logs(struct request *req);

/* events.c */
void api_events(struct request *req);

/* models.c */
void api_models_list(struct request *req);
void api_models_get(struct request *req);
void api_snapshots_list(struct request *req);

/* versions.c */
void api_models_activate(struct request *req);
void api_models_delete(struct request *req);

/* exemplars.c */
void api_exemplars_get(struct request *req);
void api_exemplars_delete(struct request *req);

/* export.c, import.c */
void api_models_export(struct request *req);
void api_models_post(struct request *req);

/* storage.c */
void api_storage_get(struct request *req);

/* history.c */
void api_history_get(struct request *req);

/* classes.c */
void api_classes_list(struct request *req);
void api_classes_get(struct request *req);
void api_classes_rename(struct request *req);
void api_classes_retire(struct request *req);

/* predict.c */
void api_predict(struct request *req);

/* inference_v2.c */
void api_v2_server(struct request *req);
void api_v2_live(struct request *req);
void api_v2_ready(struct request *req);
void api_v2_stats(struct request *req);
void api_v2_model(struct request *req);
void api_v2_model_ready(struct request *req);
void api_v2_model_config(struct request *req);
void api_v2_model_stats(struct request *req);
void api_v2_infer(struct request *req);
void api_v2_index(struct request *req);
void api_v2_load(struct request *req);

/* tokens.c */
void api_tokens_post(struct request *req);
void api_tokens_list(struct request *req);
void api_tokens_delete(struct request *req);
void api_session_post(struct request *req);
void api_session_get(struct request *req);
void api_session_delete(struct request *req);

/* metrics.c */
void api_metrics(struct request *req);

/* contract.c */
void api_openapi(struct request *req);

/* system.c */
void api_health(struct request *req);
void api_limits(struct request *req);
void api_page(struct request *req);
void api_asset(struct request *req);

#endif
