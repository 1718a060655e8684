/*
 * safetensors.h - a model as a safetensors file, and back.
 *
 * The format (https://huggingface.co/docs/safetensors): u64 length of the header, the header as
 * JSON, then the tensors, little-endian, one after the other without a gap. Ours are all F32 and
 * named as in core/model/params.h, and "prototypes" (classes, features) and "covariance", the lower triangle of
 * (features, features) row by row (core/m2kd/prototypes.h). Convolutions are (Cout, Cin, K,
 * K) as PyTorch has them; everything else as it is in memory. So far the network is whole and classifies alone, as import takes it.
 * If the model has experts (core/m2kd/experts.h), "experts.prototypes" (classes, width) and "experts.covariance" of all features
 * follow, and the parameters of each, "expert1." before their names: with these it answers as the daemon does.
 * __metadata__ holds, as strings:
 *   format "pt", accreted_format "1", accreted_version, arch, version, weights, licence
 *   spec    {"blocks","channels","height","width","classes"}       labels   names by output index
 *   mean, std   a channel, of pixels in 0..1                       steps    classes after each step
 *   classifier  "head", "prototypes" or "discriminant"; score_scale   probabilities = softmax(scale * scores)
 *   mirrored, feature_power   "true" or "false", and a number: struct model_view of core/model/model.h; not said: false, 1
 *   experts     how many there are; score_scale is then that of the scores of all of them
 * arch is "resnet-18" or "cifar-resnet-" and the depth. Shortcuts, epsilon (1e-5) and pooling:
 * core/model/resnet.h.
 */
#ifndef ACCRETED_SERVER_EXPORT_SAFETENSORS_H
#define ACCRETED_SERVER_EXPORT_SAFETENSORS_H

#include <stddef.h>

#include "server/export/export.h"

enum { SAFETENSORS_MAX_HEADER = 1 << 22 };

/* The file's bytes, to be freed by the caller. Any thread. Errors: ERR_NOMEM. */
int safetensors_write(const struct export_source *s, void **out, size_t *out_bytes);

struct safetensors { /* what was read; release it */
    struct model *model; /* one reference; of one step, whatever the metadata say: the snapshots of
                          * its past are not in the file; without experts, which are snapshots */
    char **labels;       /* (classes), each valid and no two the same */
    int label_count;
};

/* Reads what safetensors_write wrote, or something of the same names and shapes: `format`,
 * `version`, `weights`, `steps` and `licence` are not asked for, and any `arch` but "resnet-18" is a
 * CIFAR ResNet. Any thread.
 * Errors: ERR_FORMAT with what is wrong in `why`; ERR_NOMEM. */
int safetensors_read(struct safetensors *out, const void *data, size_t size_bytes,
                     enum conv_isa isa, char *why, size_t why_bytes);
void safetensors_release(struct safetensors *s);

#endif
