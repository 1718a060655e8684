/*
 * safetensors_layout.h - which tensors a file holds and how they lie in it; private to
 * safetensors_write.c and safetensors_read.c.
 */
#ifndef ACCRETED_SERVER_EXPORT_SAFETENSORS_LAYOUT_H
#define ACCRETED_SERVER_EXPORT_SAFETENSORS_LAYOUT_H

#include "core/model/model.h"

#define SAFETENSORS_FORMAT "1" /* of names, layouts and metadata */

struct layout_tensor {
    char name[80];
    int dims[4], ndims; /* in the file */
    size_t count;       /* floats */
    float *values;      /* in the model */
    const struct param_entry *conv; /* NULL unless its order differs between model and file */
};

/* Number of tensors of a model without experts; each by its index: the parameter table, then covariance and prototypes. */
int layout_count(const struct model *m);
void layout_tensor(const struct model *m, int index, struct layout_tensor *out);

/* Tensors that the experts of a model add to these, 0 without any, all with this prefix: covariance and prototypes of all features, then
 * the parameter table of each expert, "expert1." before its names. */
#define LAYOUT_EXPERT_PREFIX "expert"
int layout_expert_count(const struct model *m);
void layout_expert_tensor(const struct model *m, int index, struct layout_tensor *out);

/* (K,K,Cin,Cout) in memory to (Cout,Cin,K,K) in the file and back. The file's floats need not be
 * aligned. */
void layout_to_file(const struct layout_tensor *t, void *file);
void layout_from_file(const struct layout_tensor *t, const void *file);

#endif
