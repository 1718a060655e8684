#include "core/learner/objective.h"

#include "core/nn/loss.h"

/* An image of a known class has no label among the new columns and is left out of them. */
static double softmax_loss(const struct objective *o, int n, const float *z, const int *labels,
                           float scale, float *dz)
{
    int first = o->exemplars ? 0 : o->old_classes;
    double loss = 0;
    for (int i = 0; i < n; i++)
        if (labels[i] >= first)
            loss += loss_softmax_labels(1, o->outputs, first, o->classes,
                                        z + (size_t)i * (size_t)o->outputs, labels + i, scale,
                                        dz + (size_t)i * (size_t)o->outputs);
    return loss;
}

static double class_loss(const struct objective *o, struct train *t, int head, int lo, int hi,
                         const int *labels, float scale)
{
    const float *z = train_logits(t, head, lo);
    float *dz = train_dlogits(t, head, lo);
    double loss = 0;
    switch (o->options->loss) {
    case LOSS_SIGMOID:
        loss = loss_sigmoid_labels(hi - lo, o->outputs, o->old_classes, o->outputs, z, labels + lo,
                                   scale, dz);
        break;
    case LOSS_SOFTMAX:
        loss = softmax_loss(o, hi - lo, z, labels + lo, scale, dz);
        break;
    }
    return loss;
}

/* What one of its teachers has to say about image i. */
static double row_distillation(const struct objective *o, struct train *t, int head, int i,
                               int which, float scale)
{
    const float *teacher = teachers_logits(o->teachers, head, i), *z = train_logits(t, head, i);
    float *dz = train_dlogits(t, head, i);
    int ld_teacher = teachers_classes(o->teachers), first, end;
    double loss = 0;
    teachers_of_row(o->teachers, o->batch, i, which, &first, &end);
    switch (o->options->loss) {
    case LOSS_SIGMOID:
        loss = loss_sigmoid_teacher(1, o->outputs, first, end, z, ld_teacher, teacher, scale, dz);
        break;
    case LOSS_SOFTMAX:
        loss = loss_softmax_teacher(1, o->outputs, first, end, z, ld_teacher, teacher,
                                    o->options->temperature, scale, dz);
        break;
    }
    return loss;
}

static double distillation(const struct objective *o, struct train *t, int head, int lo, int hi,
                           float scale)
{
    double loss = 0;
    if (!o->teachers)
        return 0;
    for (int i = lo; i < hi; i++) {
        float weighed = scale * teachers_weight(o->teachers, o->batch, i);
        for (int which = 0; which < teachers_per_row(o->teachers, o->batch, i); which++)
            loss += row_distillation(o, t, head, i, which, weighed);
    }
    return loss;
}

/* How far the features have turned from those of the model built on. */
static double feature_distillation(const struct objective *o, struct train *t, int lo, int hi,
                                   float scale)
{
    double loss = 0;
    if (!o->teachers)
        return 0;
    scale *= teachers_features_weight(o->teachers);
    for (int i = lo; i < hi; i++) {
        const float *target = teachers_features(o->teachers, o->batch, i);
        if (target)
            loss += loss_cosine(1, o->features, train_features(t, i), target, scale,
                                train_dfeatures(t, i));
    }
    return loss;
}

/* New classes' images, and of these how many have their highest main logit among the new classes at the label. */
static void count_correct(const struct objective *o, struct train *t, int lo, int hi,
                          const int *labels, struct objective_sums *sums)
{
    for (int i = lo; i < hi; i++) {
        const float *z = train_logits(t, 0, i);
        int best = o->old_classes;
        if (labels[i] < o->old_classes)
            continue;
        for (int c = best + 1; c < o->classes; c++)
            if (z[c] > z[best])
                best = c;
        sums->correct += best == labels[i];
        sums->count_new++;
    }
}

void objective_slice(const struct objective *o, struct train *t, int lo, int hi, int n,
                     const int *labels, struct objective_sums *sums)
{
    float scale = 1.0f / (float)n;
    if (hi <= lo)
        return;
    if (o->options->head_reserve)
        scale /= (float)o->outputs;
    sums->loss_class += n * class_loss(o, t, 0, lo, hi, labels, scale);
    sums->loss_mmd += n * distillation(o, t, 0, lo, hi, scale * o->options->logit_weight);
    sums->loss_ad += n * feature_distillation(o, t, lo, hi, scale * o->options->feature_weight);
    for (int head = 1; o->options->aux && head < o->heads; head++) {
        sums->loss_class +=
            n * class_loss(o, t, head, lo, hi, labels, scale * o->options->aux_weight);
        sums->loss_ad += n * distillation(o, t, head, lo, hi, scale * o->options->lambda);
    }
    count_correct(o, t, lo, hi, labels, sums);
    sums->count += hi - lo;
}
