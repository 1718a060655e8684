#!/bin/bash
# schema/ is data that clients and tests rely on: db.sql must be the dump of a freshly migrated
# database, every JSON Schema must be valid, and every $ref must lead somewhere.
#
#   tests/check_schema.sh           checks
#   tests/check_schema.sh --write   writes schema/db.sql anew, after a migration was added
set -eu
cd "$(dirname "$0")/.."

/usr/bin/python3 - "${1:-}" <<'PYTHON'
import glob
import json
import os
import re
import sqlite3
import sys

import jsonschema

failures = []

# The database.
db = sqlite3.connect(":memory:")
for migration in sorted(glob.glob("migrations/[0-9]*.sql")):
    with open(migration, encoding="utf-8") as f:
        db.executescript(f.read())
rows = db.execute(
    "SELECT sql FROM sqlite_master WHERE sql IS NOT NULL AND name NOT LIKE 'sqlite_%' "
    "ORDER BY CASE type WHEN 'table' THEN 0 WHEN 'index' THEN 1 ELSE 2 END, name"
)
dump = "-- The schema of a migrated database; tests/check_schema.sh --write makes it.\n\n"
dump += "\n\n".join(sql + ";" for (sql,) in rows) + "\n"
if sys.argv[1] == "--write":
    with open("schema/db.sql", "w", encoding="utf-8") as f:
        f.write(dump)
with open("schema/db.sql", encoding="utf-8") as f:
    if f.read() != dump:
        failures.append("schema/db.sql is not current: run tests/check_schema.sh --write")


# The JSON Schemas.
def refs(node):
    if isinstance(node, dict):
        for key, value in node.items():
            if key == "$ref":
                yield value
            else:
                yield from refs(value)
    elif isinstance(node, list):
        for value in node:
            yield from refs(value)


for path in sorted(glob.glob("schema/*.json")):
    with open(path, encoding="utf-8") as f:
        document = json.load(f)
    if os.path.basename(path) != "openapi.json":
        try:
            jsonschema.Draft202012Validator.check_schema(document)
        except jsonschema.SchemaError as error:
            failures.append(f"{path}: {error.message}")
    for ref in refs(document):
        if ref.startswith("#/"):
            node = document
            for part in ref[2:].split("/"):
                node = node.get(part) if isinstance(node, dict) else None
            if node is None:
                failures.append(f"{path}: {ref} leads nowhere")
        elif not os.path.exists(os.path.join("schema", ref)):
            failures.append(f"{path}: {ref} leads nowhere")

# Every route of the daemon is described, and no other.
with open("schema/openapi.json", encoding="utf-8") as f:
    described = {
        (method.upper(), path)
        for path, item in json.load(f)["paths"].items()
        for method in item
    }
with open("server/api/routes.c", encoding="utf-8") as f:
    table = re.findall(r'^ *\{"(\w+)", (V1 )?"([^"]*)"', f.read(), re.M)
routes = {(method, ("/api/v1" if v1 else "") + path) for method, v1, path in table}
for method, path in sorted(routes ^ described):
    where = "server/api/routes.c" if (method, path) in routes else "schema/openapi.json"
    failures.append(f"{method} {path} stands in {where} alone")

for failure in failures:
    print(failure, file=sys.stderr)
sys.exit(1 if failures else 0)
PYTHON
