#include <stddef.h>

#include "core/err.h"
#include "core/learner/learner.h"
#include "core/m2kd/snapshot.h"

void learner_options_default(struct learner_options *o)
{
    *o = (struct learner_options){
        .method = METHOD_M2KD,
        .loss = LOSS_SIGMOID,
        .teachers = TEACHERS_ALL,
        .teachers_per_image = 1,
        .teachers_precision = conv_precision_fastest(),
        .classifier = CLASSIFIER_DISCRIMINANT,
        .experts = 9,
        .aux = false,
        .logit_weight = 1.0f,
        .lambda = 1.0f,
        .feature_weight = 1.0f,
        .aux_weight = 0.5f,
        .temperature = 2.0f,
        .exemplars_select = EXEMPLARS_HERDING,
        .weight_align = true,
        .arch = RESNET_CIFAR,
        .blocks = 5,
        .epochs = 70,
        .batch = 128,
        .sgd = {.lr = 0.1f, .momentum = 0.9f, .weight_decay = 2e-3f, .schedule = SGD_COSINE},
        .lr_later = 1.0f,
        .view = {.pad = 4, .flip = true},
        .mirror = true,
        .feature_power = 0.7f,
        .prune_keep = 0.25f,
        .prune_epochs = 4,
        .prune_bits = 6,
        .precision = CONV_FP32,
        .seed = 1,
        .gang = 1,
    };
}

struct range {
    const char *name;
    double value, lo, hi;
};

int learner_options_check(const struct learner_options *o, const char **bad_option)
{
    const struct range ranges[] = {
        {"method", o->method, METHOD_M2KD, METHOD_AUTO},
        {"loss", o->loss, LOSS_SIGMOID, LOSS_SOFTMAX},
        {"teachers", o->teachers, TEACHERS_ALL, TEACHERS_LAST},
        {"teachers_per_image", o->teachers_per_image, 0, MODEL_MAX_STEPS},
        {"teachers_precision", o->teachers_precision, CONV_FP32, CONV_BF16},
        {"exemplars.total", o->exemplars_total, 0, 1000000},
        {"exemplars.select", o->exemplars_select, EXEMPLARS_HERDING, EXEMPLARS_RANDOM},
        /* A frozen network's head learns nothing of new classes. */
        {"classifier", o->classifier,
         o->method == METHOD_FROZEN ? CLASSIFIER_PROTOTYPES : CLASSIFIER_HEAD,
         CLASSIFIER_DISCRIMINANT},
        {"experts", o->experts, 0, MODEL_MAX_WIDTH},
        {"logit_weight", o->logit_weight, 0, 100},
        {"lambda", o->lambda, 0, 100},
        {"feature_weight", o->feature_weight, 0, 1000},
        {"aux_weight", o->aux_weight, 0, 100},
        {"temperature", o->temperature, 0.1, 100},
        {"head.reserve", o->head_reserve, 0,
         o->loss == LOSS_SIGMOID ? RESNET_MAX_CLASSES : 0},
        {"depth", resnet_exists(o->arch, o->blocks), 1, 1},
        {"epochs", o->epochs, 1, 10000},
        {"batch", o->batch, 2, 4096},
        {"lr", o->sgd.lr, 1e-8, 100},
        {"momentum", o->sgd.momentum, 0, 0.9999},
        {"weight_decay", o->sgd.weight_decay, 0, 1},
        {"schedule", o->sgd.schedule, SGD_COSINE, SGD_STEP},
        {"lr_later", o->lr_later, 1e-6, 1000},
        {"pad", o->view.pad, 0, 64},
        {"feature_power", o->feature_power, MODEL_POWER_MIN, 1},
        {"prune.keep", o->prune_keep, 0.001, 1},
        {"prune.epochs", o->prune_epochs, 0, 1000},
        {"prune.bits", snapshot_bits_valid(o->prune_bits), 1, 1},
        /* A frozen network has nothing to claim. */
        {"store", o->store, STORE_STANDALONE,
         o->method == METHOD_FROZEN ? STORE_STANDALONE : STORE_SHARED},
        {"precision", o->precision, CONV_FP32, CONV_BF16},
        {"gang", o->gang, 1, 256},
        {"nice_level", o->nice_level, 0, 19},
    };
    for (size_t i = 0; i < sizeof ranges / sizeof *ranges; i++)
        if (!(ranges[i].value >= ranges[i].lo && ranges[i].value <= ranges[i].hi)) {
            *bad_option = ranges[i].name;
            return ERR_INVALID;
        }
    return 0;
}

bool learner_has_exemplar(const struct dataset *train, int exemplars, int class)
{
    for (int i = train->count - exemplars; i < train->count; i++)
        if (train->labels[i] == class)
            return true;
    return false;
}

void learner_settle_method(struct learner_options *o, const struct dataset *train, int exemplars,
                           const struct model *base)
{
    bool replays = base && o->experts > 0 && o->classifier != CLASSIFIER_HEAD;
    if (o->method != METHOD_AUTO)
        return;
    for (int c = 0; replays && c < base->net->spec.classes; c++)
        replays = base->retired[c] || learner_has_exemplar(train, exemplars, c);
    o->method = replays ? METHOD_FINETUNE : METHOD_M2KD;
}
