/*
 * test_options.c - options of a job: what is accepted, refused, stored and shown.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/err.h"
#include "server/jobs/options.h"

static int parse(struct job_options *o, const char *text, struct refusal *why)
{
    json_t *json = json_loads(text, 0, NULL);
    assert_non_null(json);
    job_options_default(o);
    memset(why, 0, sizeof *why);
    int err = job_options_parse(o, json, why);
    json_decref(json);
    return err;
}

static void test_every_option(void **state)
{
    (void)state;
    struct job_options o;
    struct refusal why;
    assert_int_equal(
        parse(&o,
              "{\"method\":\"finetune\",\"loss\":\"softmax\",\"teachers\":\"last\","
              "\"teachers_per_image\":3,\"teachers_precision\":\"fp32\",\"classifier\":\"head\",\"experts\":4,\"aux\":false,"
              "\"logit_weight\":0.75,\"lambda\":0.25,\"feature_weight\":3,\"aux_weight\":0.125,"
              "\"temperature\":4,\"depth\":20,\"epochs\":7,\"batch\":32,\"lr\":0.5,"
              "\"momentum\":0.75,\"weight_decay\":0.5,\"schedule\":\"step\",\"lr_later\":0.5,"
              "\"pad\":2,\"flip\":false,\"mirror\":false,\"feature_power\":0.5,\"prune\":{\"keep\":0.5,\"epochs\":3,\"bits\":8},"
              "\"store\":\"shared\",\"seed\":42,"
              "\"input\":{\"channels\":1,\"height\":28,\"width\":30}}",
              &why),
        0);
    const struct learner_options *l = &o.learner;
    assert_true(l->method == METHOD_FINETUNE && l->loss == LOSS_SOFTMAX &&
                l->teachers == TEACHERS_LAST && l->teachers_per_image == 3 &&
                l->teachers_precision == CONV_FP32 &&
                l->classifier == CLASSIFIER_HEAD && l->experts == 4 && !l->aux);
    assert_true(l->feature_weight == 3 && l->logit_weight == 0.75f);
    assert_true(!l->mirror && l->feature_power == 0.5f && o.mirror_given && o.feature_power_given);
    assert_true(l->lambda == 0.25f && l->aux_weight == 0.125f && l->temperature == 4.0f);
    assert_int_equal(l->blocks, 3);
    assert_true(l->epochs == 7 && l->batch == 32 && l->view.pad == 2 && !l->view.flip);
    assert_true(l->sgd.lr == 0.5f && l->sgd.momentum == 0.75f && l->sgd.weight_decay == 0.5f &&
                l->sgd.schedule == SGD_STEP && l->lr_later == 0.5f);
    assert_true(l->prune_keep == 0.5f && l->prune_epochs == 3 && l->prune_bits == 8 &&
                l->store == STORE_SHARED && l->seed == 42);
    assert_true(o.channels == 1 && o.height == 28 && o.width == 30);
    assert_true(o.depth_given && o.input_given);
}

/* Few bits or fp16, and nothing between. */
static void test_bits(void **state)
{
    (void)state;
    static const char *const bad[] = {"{\"prune\":{\"bits\":1}}", "{\"prune\":{\"bits\":9}}",
                                      "{\"prune\":{\"bits\":15}}", "{\"prune\":{\"bits\":32}}"};
    struct job_options o;
    struct refusal why;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_int_equal(parse(&o, bad[i], &why), ERR_INVALID);
        assert_string_equal(why.code, "bad_option");
        assert_non_null(strstr(why.detail, "'prune.bits'"));
    }
    assert_int_equal(parse(&o, "{\"prune\":{\"bits\":16}}", &why), 0);
    assert_int_equal(parse(&o, "{\"prune\":{\"bits\":2}}", &why), 0);
}

/* Options that only go together: a head in reserve with the sigmoid form, a frozen network with prototypes. */
static void test_controls(void **state)
{
    (void)state;
    struct job_options o;
    struct refusal why;
    assert_int_equal(parse(&o, "{\"method\":\"frozen\",\"head\":{\"reserve\":100}}", &why), 0);
    assert_true(o.learner.method == METHOD_FROZEN && o.learner.head_reserve == 100);
    assert_int_equal(parse(&o, "{\"method\":\"frozen\",\"classifier\":\"head\"}", &why),
                     ERR_INVALID);
    assert_string_equal(why.code, "bad_option");
    assert_non_null(strstr(why.detail, "'classifier'"));
    assert_int_equal(parse(&o, "{\"loss\":\"softmax\",\"head\":{\"reserve\":100}}", &why),
                     ERR_INVALID);
    assert_non_null(strstr(why.detail, "'head.reserve'"));
    assert_int_equal(parse(&o, "{\"head\":100}", &why), ERR_INVALID);
    assert_non_null(strstr(why.detail, "'head' must be an object"));
}

static void test_precision(void **state)
{
    (void)state;
    struct job_options o;
    struct refusal why;
    assert_int_equal(parse(&o, "{}", &why), 0);
    assert_int_equal(o.learner.precision, CONV_FP32);
    /* Whether this CPU has it is a question to the machine that runs the job: plan.c. */
    assert_int_equal(parse(&o, "{\"precision\":\"bf16\"}", &why), 0);
    assert_int_equal(o.learner.precision, CONV_BF16);
    assert_int_equal(parse(&o, "{\"precision\":\"fastest\"}", &why), 0);
    assert_int_equal(o.learner.precision,
                     conv_precision_available(CONV_BF16, conv_isa_best()) ? CONV_BF16 : CONV_FP32);
    assert_int_equal(parse(&o, "{\"precision\":\"fp16\"}", &why), ERR_INVALID);
    assert_int_equal(parse(&o, "{\"teachers_precision\":\"fp16\"}", &why), ERR_INVALID);
}

/* By default, too, a job is stored with what its teachers are computed in on this machine: elsewhere that is not the same job. */
static void test_precision_of_the_teachers_is_stored(void **state)
{
    (void)state;
    struct job_options o;
    struct refusal why;
    bool bf16 = conv_precision_available(CONV_BF16, conv_isa_best());
    static const char *const asked[] = {"{}", "{\"teachers_precision\":\"fastest\"}",
                                        "{\"teachers_precision\":\"bf16\"}",
                                        "{\"teachers_precision\":\"fp32\"}"};
    const char *const stored[] = {bf16 ? "bf16" : "fp32", bf16 ? "bf16" : "fp32", "bf16", "fp32"};
    for (int i = 0; i < 4; i++) {
        assert_int_equal(parse(&o, asked[i], &why), 0);
        json_t *json = job_options_json(&o);
        assert_string_equal(json_string_value(json_object_get(json, "teachers_precision")),
                            stored[i]);
        json_decref(json);
    }
}

static void test_dotted_names(void **state)
{
    (void)state;
    struct job_options o;
    struct refusal why;
    assert_int_equal(parse(&o, "{\"prune.keep\":0.5}", &why), 0);
    assert_true(o.learner.prune_keep == 0.5f);
}

static void test_refused(void **state)
{
    (void)state;
    static const struct {
        const char *text, *code, *names;
    } cases[] = {
        {"{\"learning_rate\":1}", "unknown_option", "learning_rate"},
        {"{\"prune\":{\"share\":1}}", "unknown_option", "prune.share"},
        {"{\"prune\":0.5}", "bad_option", "prune"},
        {"{\"input\":{\"channels\":3}}", "bad_option", "height"},
        {"{\"input\":{\"channels\":2,\"height\":32,\"width\":32}}", "bad_option", "1 or 3"},
        {"{\"input\":{\"channels\":3,\"height\":7,\"width\":32}}", "bad_option", "8 to 512"},
        {"{\"depth\":18,\"input\":{\"channels\":3,\"height\":28,\"width\":32}}", "bad_option",
         "at least 32"},
        {"{\"epochs\":0}", "bad_option", "1 to 10000"},
        {"{\"epochs\":10001}", "bad_option", "1 to 10000"},
        {"{\"epochs\":1.5}", "bad_option", "whole number"},
        {"{\"epochs\":\"5\"}", "bad_option", "epochs"},
        {"{\"epochs\":4294967297}", "bad_option", "epochs"}, /* would be 1 in 32 bits */
        {"{\"epochs\":null}", "bad_option", "epochs"},
        {"{\"depth\":12}", "bad_option", "18 (ResNet-18) or 6n+2"},
        {"{\"depth\":34}", "bad_option", "6n+2"},
        {"{\"depth\":2}", "bad_option", "6n+2"},
        {"{\"lr\":-0.1}", "bad_option", "lr"},
        {"{\"lr\":1e300}", "bad_option", "lr"},
        {"{\"aux\":1}", "bad_option", "true or false"},
        {"{\"method\":\"ewc\"}", "bad_option", "\"m2kd\", \"finetune\", \"frozen\" or \"auto\""},
        {"{\"method\":7}", "bad_option", "method"},
        {"{\"seed\":-1}", "bad_option", "seed"},
        {"{\"seed\":9007199254740992}", "bad_option", "seed"},
        {"[]", "bad_field", "object"},
    };
    struct job_options o, untouched;
    struct refusal why;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        assert_int_equal(parse(&o, cases[i].text, &why), ERR_INVALID);
        assert_string_equal(why.code, cases[i].code);
        assert_int_equal(why.status, 422);
        if (!strstr(why.detail, cases[i].names))
            fail_msg("%s: \"%s\" does not say \"%s\"", cases[i].text, why.detail, cases[i].names);
        job_options_default(&untouched);
        assert_true(o.learner.epochs == untouched.learner.epochs &&
                    o.learner.sgd.lr == untouched.learner.sgd.lr && o.channels == 0);
    }
}

/* What is stored is what was meant, also for decimals that no float holds. */
static void test_round_trip(void **state)
{
    (void)state;
    struct job_options o, again;
    struct refusal why;
    char *text, *second;
    const char *asked = "{\"lr\":0.1,\"weight_decay\":0.0005,\"prune\":{\"keep\":0.3}}";
    assert_int_equal(parse(&o, asked, &why), 0);
    assert_int_equal(job_options_dump(&o, &text), 0);
    assert_non_null(strstr(text, "\"lr\":0.1,"));
    assert_non_null(strstr(text, "\"input\":null"));
    assert_int_equal(job_options_load(&again, text), 0);
    assert_true(again.learner.sgd.lr == o.learner.sgd.lr);
    assert_true(again.learner.prune_keep == 0.3f && again.channels == 0);
    again.channels = 3;
    again.height = again.width = 32;
    assert_int_equal(job_options_dump(&again, &second), 0);
    assert_int_equal(job_options_load(&o, second), 0);
    assert_true(o.channels == 3 && o.height == 32 && o.width == 32);
    assert_int_equal(job_options_load(&o, "{\"gone\":1}"), ERR_CORRUPT);
    assert_true(again.learner.mirror && again.learner.feature_power == 0.7f);
    assert_int_equal(job_options_load(&o, "{}"), 0); /* of before there were these two */
    assert_true(!o.learner.mirror && o.learner.feature_power == 1);
    free(text);
    free(second);
}

/* One number names the network: 18 is ResNet-18, which 6n+2 never gives. */
static void test_depth_of_resnet18(void **state)
{
    (void)state;
    struct job_options o, again;
    struct refusal why;
    char *text;
    assert_int_equal(parse(&o, "{\"depth\":18}", &why), 0);
    assert_true(o.depth_given && o.learner.arch == RESNET_18 && o.learner.blocks == 2);
    assert_int_equal(job_options_dump(&o, &text), 0);
    assert_non_null(strstr(text, "\"depth\":18,"));
    assert_int_equal(job_options_load(&again, text), 0);
    assert_int_equal(again.learner.arch, RESNET_18);
    assert_int_equal(parse(&o, "{\"depth\":14}", &why), 0);
    assert_true(o.learner.arch == RESNET_CIFAR && o.learner.blocks == 2);
    free(text);
}

static void test_defaults_are_valid(void **state)
{
    (void)state;
    struct job_options o;
    struct refusal why;
    job_options_default(&o);
    json_t *json = job_options_json(&o);
    assert_non_null(json);
    assert_int_equal(job_options_parse(&o, json, &why), 0);
    json_decref(json);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_option), cmocka_unit_test(test_bits),
        cmocka_unit_test(test_controls),
        cmocka_unit_test(test_precision),
        cmocka_unit_test(test_precision_of_the_teachers_is_stored),
        cmocka_unit_test(test_dotted_names),
        cmocka_unit_test(test_refused),      cmocka_unit_test(test_round_trip),
        cmocka_unit_test(test_defaults_are_valid), cmocka_unit_test(test_depth_of_resnet18),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
