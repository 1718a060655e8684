/*
 * contract.c - GET /openapi.json: the contract as one document.
 *
 * In the source tree it is a file that refers to the JSON Schemas beside it; who fetches it has no
 * such files. So they become components: "job.json" is "#/components/schemas/job" then, and a
 * schema's own "#/$defs/x" moves with it. Made once, when it is first asked for.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "server/api/api.h"
#include "server/app.h"
#include "server/assets.h"
#include "server/http/http.h"

#define FOLDER "schema/"
#define SUFFIX ".json"

/* `ref` of document `from` (NULL: openapi.json) as one of the whole. */
static json_t *moved_ref(const char *from, const char *ref)
{
    char text[256];
    const char *suffix = strstr(ref, SUFFIX);
    if (*ref == '#')
        snprintf(text, sizeof text, "%s%s%s", from ? "#/components/schemas/" : "#",
                 from ? from : "",
                 ref + 1);
    else if (suffix)
        snprintf(text, sizeof text, "#/components/schemas/%.*s%s", (int)(suffix - ref), ref,
                 suffix[sizeof SUFFIX - 1] ? suffix + sizeof SUFFIX : "");
    else
        return json_string(ref);
    return json_string(text);
}

static void move_refs(json_t *node, const char *from)
{
    const char *key;
    void *next;
    size_t i;
    json_t *value;
    json_object_foreach_safe(node, next, key, value)
    {
        if (strcmp(key, "$ref") == 0 && json_is_string(value))
            json_object_set_new(node, key, moved_ref(from, json_string_value(value)));
        else
            move_refs(value, from);
    }
    json_array_foreach(node, i, value)
        move_refs(value, from);
}

/* The schemas by the names of their files; NULL without memory. */
static json_t *load_schemas(void)
{
    json_t *schemas = json_object();
    for (int i = 0; schemas && i < asset_count; i++) {
        const char *file = assets[i].name + sizeof FOLDER - 1;
        size_t length = strlen(assets[i].name);
        char name[64];
        if (strncmp(assets[i].name, FOLDER, sizeof FOLDER - 1) != 0 ||
            strcmp(assets[i].name, FOLDER "openapi.json") == 0)
            continue;
        snprintf(name, sizeof name, "%.*s",
                 (int)(length - (sizeof FOLDER - 1) - (sizeof SUFFIX - 1)), file);
        json_t *schema = json_loadb((const char *)assets[i].data, assets[i].size_bytes, 0, NULL);
        json_object_del(schema, "$schema");
        move_refs(schema, name);
        if (json_object_set_new(schemas, name, schema) != 0) {
            json_decref(schemas);
            schemas = NULL;
        }
    }
    return schemas;
}

static char *make_contract(void)
{
    const struct asset *asset = assets_find(FOLDER "openapi.json");
    json_t *document = json_loadb((const char *)asset->data, asset->size_bytes, 0, NULL);
    move_refs(document, NULL);
    json_object_set_new(json_object_get(document, "components"), "schemas", load_schemas());
    char *text = reply_json_text(document);
    json_decref(document);
    return text;
}

void api_openapi(struct request *req)
{
    struct app *app = request_app(req);
    if (!app->contract)
        app->contract = make_contract();
    if (app->contract)
        reply_copy(req, 200, "application/json", app->contract, strlen(app->contract));
    else
        reply_json(req, 500, NULL);
}
