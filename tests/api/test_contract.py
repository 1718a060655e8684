"""schema/openapi.json is what the daemon does: requests made from it, good and hostile, for every operation. Whatever comes,
the answer is one that the document promises for the route (conftest.py checks each), and never a 500.

Deterministic: the examples are derived from the document, not from chance."""

import http.client
import json
import re
import urllib.parse

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import images
from conftest import DOCUMENTS, Client

EXAMPLES = 20  # requests an operation, beside the plain one
TINY = {"depth": 8, "epochs": 1, "batch": 32, "prune": {"keep": 0.5, "epochs": 1}}
ORDER = ["get", "post", "put", "patch", "delete"]  # what takes away comes last
OPERATIONS = sorted(((method, path) for path, item in DOCUMENTS["openapi.json"]["paths"].items() for method in item),
                    key=lambda o: (ORDER.index(o[0]), "tokens" in o[1], o[1]))
# What stands in a path and is there: `world` makes it.
KNOWN = {"name": "one", "id": "1", "version": "1", "model": "accreted", "file": "style.css", "class": "red"}


# ---- the world ----

class Answer:
    """As much of a reply of `requests` as conftest's check looks at."""

    def __init__(self, reply, body):
        self.status_code, self.headers, self.body = reply.status, reply.headers, body

    def json(self):
        return json.loads(self.body)


class World(Client):
    """A daemon that has learned something, and both kinds of token."""

    def prepare(self):
        self.upload("one", images.tar(["red", "green"], range(24)), holdout=0.25)
        self.learn("one", **TINY)
        self.upload("two", images.tar(["blue"], range(24)))
        self.admin = self.token("admin")
        self.predict_token = self.token("predict")
        return self

    def token(self, scope):
        headers = {"Authorization": "Bearer " + self.admin} if scope != "admin" else {}
        reply = self.post("/api/v1/tokens", json={"scope": scope}, headers=headers)
        assert reply.status_code == 201, reply.text
        return reply.json()["token"]

    def send(self, method, target, headers, body=b""):
        """The target goes out as it is, so no client tidies it up first."""
        connection = http.client.HTTPConnection("127.0.0.1", self.daemon.port, timeout=60)
        try:
            connection.putrequest(method.upper(), target, skip_accept_encoding=True)
            for name, value in headers.items():
                connection.putheader(name, value)
            if body or method != "get":
                connection.putheader("Content-Length", str(len(body)))
            connection.endheaders(body or None)
            reply = connection.getresponse()
            endless = reply.headers.get("Content-Type") == "text/event-stream"
            answer = Answer(reply, b"" if endless else reply.read())
        finally:
            connection.close()
        where = f"{method} {target} {headers} {body[:300]!r}: {answer.status_code} {answer.body[:300]!r}"
        assert answer.status_code != 500, where
        self.check(method.upper(), target.partition("#")[0], answer)
        return answer


@pytest.fixture(scope="module")
def world(module_daemon):
    return World(module_daemon).prepare()


# ---- values ----

TEXT = st.text(max_size=40)
JUNK = st.recursive(st.none() | st.booleans() | st.integers(-2**70, 2**70) | st.floats() | TEXT,
                    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4), max_leaves=8)
NASTY_SEGMENTS = st.sampled_from(["..", ".", "%2e%2e", "%00", "%zz", "a%2Fb", "%", "0", "-1", "1.5", "9" * 30, "x" * 600,
                                  "%ff%fe", "'; DROP TABLE jobs; --".replace(" ", "%20"), "1%20", "%7B%7D"])
NASTY_BODIES = st.sampled_from([b"", b"{", b"[" * 5000, b'{"a":1,"a":2}', b"null", b"\xff\xfe", b"\0" * 1000,
                                b'{"batches":' + b"[" * 300 + b"]" * 300 + b"}"]) | st.binary(max_size=300)


def mostly(good, bad):
    return st.one_of(good, good, good, bad)


def values(schema):
    """Values of a JSON Schema, near enough: a pattern or a condition may be missed."""
    if "$ref" in schema:
        return values(DOCUMENTS[schema["$ref"]])
    if "enum" in schema or "const" in schema:
        return st.sampled_from(schema.get("enum") or [schema["const"]])
    for choice in ("oneOf", "anyOf"):
        if choice in schema:
            return st.one_of(*map(values, schema[choice]))
    kind = schema.get("type", "null")
    if isinstance(kind, list):
        return st.one_of(*(values({**schema, "type": one}) for one in kind))
    return {"string": strings, "integer": integers, "number": numbers, "array": arrays, "object": objects,
            "boolean": lambda _: st.booleans(), "null": lambda _: st.none()}[kind](schema)


def strings(schema):
    return st.from_regex(schema["pattern"], fullmatch=True) if "pattern" in schema else st.sampled_from(
        list(KNOWN.values()) + ["two"]) | TEXT


def integers(schema):
    low = schema.get("minimum", schema.get("exclusiveMinimum", -1) + 1)
    return st.integers(low, min(schema.get("maximum", low + 20), low + 20))


def numbers(schema):
    low = schema.get("minimum", schema.get("exclusiveMinimum", 0))
    return st.floats(low, schema.get("maximum", schema.get("exclusiveMaximum", low + 10)))


def arrays(schema):
    least = schema.get("minItems", 0)
    return st.lists(values(schema.get("items", {})), min_size=least, max_size=least + 2)


def objects(schema):
    fields = {name: mostly(values(field), JUNK) for name, field in schema.get("properties", {}).items()}
    needed = {name: fields.pop(name) for name in schema.get("required", []) if name in fields}
    return st.fixed_dictionaries(needed, optional=fields)


# ---- requests ----

def quoted(value):
    text = value if isinstance(value, str) else json.dumps(value)
    return urllib.parse.quote(text.encode("utf-8", "surrogatepass"), safe="")


def segment(name, schema):
    known = st.just(KNOWN[name]) if name in KNOWN else values(schema).map(quoted)
    return mostly(known, NASTY_SEGMENTS | TEXT.map(quoted) | values(schema).map(quoted))


def targets(path, parameters):
    """The request target: the path with its parameters, and a query."""
    in_path = {p["name"]: segment(p["name"], p["schema"]) for p in parameters if p["in"] == "path"}
    in_query = {p["name"]: mostly(values(p["schema"]), JUNK).map(quoted) for p in parameters if p["in"] == "query"}
    in_query["surprise"] = NASTY_SEGMENTS

    def join(drawn):
        named, query = drawn
        filled = re.sub(r"{(\w+)}", lambda m: named[m[1]], path)
        return filled + ("?" + "&".join(f"{k}={v}" for k, v in query.items()) if query else "")

    return st.tuples(st.fixed_dictionaries(in_path), st.fixed_dictionaries({}, optional=in_query)).map(join)


def form(label, data):
    return (b"--b\r\nContent-Disposition: form-data; name=\"label\"\r\n\r\n" + label + b"\r\n--b\r\nContent-Disposition: "
            b"form-data; name=\"image\"; filename=\"a.png\"\r\n\r\n" + data + b"\r\n--b--\r\n")


TAR = images.tar(["violet"], range(3))
PNG = images.png("red", 7)
GOOD_BODIES = {
    "application/x-tar": st.sampled_from([TAR, TAR[:700], TAR[:512], TAR + b"more"]),
    "application/octet-stream": st.sampled_from([TAR, PNG, b"\x08" + bytes(7) + b"{}      "]),
    "multipart/form-data": st.sampled_from([form(b"red", PNG), form(b"", PNG), form(b"red", b""), form(b"red", PNG)[:-9]]),
    "image/png": st.sampled_from([PNG, PNG[:50], PNG[:-20] + bytes(20)]),
    "image/jpeg": st.sampled_from([images.jpeg("red", 7), images.jpeg("red", 7)[:100]]),
}


def bodies(operation):
    """Pairs (content type, body)."""
    content = operation.get("requestBody", {}).get("content", {})
    pairs = [st.tuples(st.just(None), st.just(b"") | NASTY_BODIES)]
    for kind, media in content.items():
        good = GOOD_BODIES.get(kind)
        if good is None:
            good = values(media["schema"]).map(lambda value: json.dumps(value).encode("utf-8", "surrogatepass"))
        sent = "multipart/form-data; boundary=b" if kind.startswith("multipart") else kind
        pairs += [st.tuples(st.just(sent), mostly(good, NASTY_BODIES))] * 4
    return st.one_of(*pairs)


def header_sets(parameters, world):
    names = [p["name"] for p in parameters if p["in"] == "header"]
    ascii_text = st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=30)
    tokens = mostly(st.just("Bearer " + world.admin), st.sampled_from(["Bearer " + world.predict_token, "Bearer x", "y", ""]))
    return st.fixed_dictionaries({"Authorization": tokens}, optional={name: ascii_text for name in names})


def described(method, path):
    """The operation, and its parameters."""
    document = DOCUMENTS["openapi.json"]
    operation = document["paths"][path][method]
    parameters = [document["components"]["parameters"][p["$ref"].rpartition("/")[2]] if "$ref" in p else p
                  for p in operation.get("parameters", [])]
    return operation, parameters


def test_the_front_may_answer_for_every_route():
    assert [o for o in OPERATIONS if "default" not in described(*o)[0]["responses"]] == []


@pytest.mark.parametrize("method, path", OPERATIONS, ids=[" ".join(o) for o in OPERATIONS])
def test_operation(world, method, path):
    operation, parameters = described(method, path)
    if method == "get":  # what is there can be had
        plain = re.sub(r"{(\w+)}", lambda m: KNOWN[m[1]], path)
        assert world.send(method, plain, {"Authorization": "Bearer " + world.admin}).status_code == 200

    @settings(max_examples=EXAMPLES, derandomize=True, database=None, deadline=None, suppress_health_check=list(HealthCheck))
    @given(targets(path, parameters), bodies(operation), header_sets(parameters, world))
    def request(target, content, headers):
        kind, body = content
        world.send(method, target, {**headers, **({"Content-Type": kind} if kind else {})}, body)

    request()
    assert world.daemon.running()
    assert world.send("get", "/healthz", {}).status_code == 200
