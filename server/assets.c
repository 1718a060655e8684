/*
 * assets.c - look-up in the embedded files. The table itself is generated.
 */
#include "server/assets.h"

#include <stdlib.h>
#include <string.h>

static int compare_name(const void *name, const void *entry)
{
    return strcmp(name, ((const struct asset *)entry)->name);
}

const struct asset *assets_find(const char *name)
{
    return bsearch(name, assets, (size_t)asset_count, sizeof *assets, compare_name);
}
