/*
 * params.c - look-up in the parameter table; see params.h.
 */
#include "core/model/params.h"

#include <string.h>

const struct param_entry *param_find(const struct param_table *t, const char *name)
{
    for (int i = 0; i < t->entry_count; i++)
        if (strcmp(t->entries[i].name, name) == 0)
            return &t->entries[i];
    return NULL;
}
