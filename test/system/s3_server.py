#!/usr/bin/env python3
"""A bucket for tests, which checks each signature (AWS Signature Version 4) by the specification, with a session token.

s3_server.py FOLDER LOG: prints its port. The bucket is called "bucket", in the path or in the host's name; its objects
are the files of FOLDER by their paths, its keys AKID, sesame/secret+key and the token t/oken+==. Listings come in pages
of three. LOG has a line a request: METHOD PATH STATUS.
"""

import email.utils
import hashlib
import hmac
import http.server
import os
import sys
import time
import urllib.parse
from xml.sax.saxutils import escape

FOLDER, LOG = sys.argv[1:3]
KEY, SECRET, TOKEN = "AKID", "sesame/secret+key", "t/oken+=="
NOTHING = hashlib.sha256(b"").hexdigest()
PAGE = 3


def quote(text, safe=""):
    return urllib.parse.quote(text, safe="-_.~" + safe)


def signature(secret, scope, date, canonical):
    key = ("AWS4" + secret).encode()
    for part in scope.split("/"):
        key = hmac.new(key, part.encode(), hashlib.sha256).digest()
    text = "\n".join(("AWS4-HMAC-SHA256", date, scope, hashlib.sha256(canonical.encode()).hexdigest()))
    return hmac.new(key, text.encode(), hashlib.sha256).hexdigest()


def refusal(method, target, headers):
    """The code of the error, or None for a request that is signed as it has to be."""
    authorization = headers.get("Authorization", "")
    if not authorization.startswith("AWS4-HMAC-SHA256 "):
        return "AccessDenied"
    parts = dict(part.strip().split("=", 1) for part in authorization.split(" ", 1)[1].split(","))
    key, scope = parts["Credential"].split("/", 1)
    if key != KEY:
        return "InvalidAccessKeyId"
    if headers.get("x-amz-content-sha256") != NOTHING:
        return "InvalidRequest"
    if headers.get("x-amz-security-token") != TOKEN:
        return "InvalidToken"
    signed = parts["SignedHeaders"].split(";")
    must = ["host"] + [name.lower() for name in headers if name.lower().startswith("x-amz-")]
    if set(must) - set(signed) or scope.split("/")[1:] != ["eu-test-1", "s3", "aws4_request"]:
        return "AuthorizationHeaderMalformed"
    path, _, query = target.partition("?")
    pairs = sorted((quote(urllib.parse.unquote(name)), quote(urllib.parse.unquote(value)))
                   for name, _, value in (item.partition("=") for item in query.split("&") if item))
    canonical = "\n".join((method, quote(urllib.parse.unquote(path), "/"), "&".join("=".join(pair) for pair in pairs),
                           *(f"{name}:{' '.join(headers[name].split())}" for name in signed), "", ";".join(signed),
                           NOTHING))
    wanted = signature(SECRET, scope, headers["x-amz-date"], canonical)
    return None if hmac.compare_digest(wanted, parts["Signature"]) else "SignatureDoesNotMatch"


def keys():
    found = []
    for folder, _, names in os.walk(FOLDER):
        found += [os.path.relpath(os.path.join(folder, name), FOLDER) for name in names]
    return sorted(found, key=lambda key: key.encode())


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def reply(self, status, body=b"", **headers):
        with open(LOG, "a", encoding="utf-8") as log:
            log.write(f"{self.command} {self.path} {status}\n")
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        if "Content_Length" not in headers:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def do_HEAD(self):
        self.do_GET()

    def do_GET(self):
        code = refusal(self.command, self.path, self.headers)
        if code:
            return self.reply(403, f"<Error><Code>{code}</Code></Error>".encode())
        path, _, query = self.path.partition("?")
        key = urllib.parse.unquote(path).lstrip("/")
        if not self.headers["Host"].startswith("bucket."):
            bucket, _, key = key.partition("/")
            if bucket != "bucket":
                return self.reply(404, b"<Error><Code>NoSuchBucket</Code></Error>")
        if not key:
            return self.list_objects(urllib.parse.parse_qs(query))
        return self.send_object(os.path.join(FOLDER, key))

    def list_objects(self, query):
        prefix, after = query.get("prefix", [""])[0], query.get("continuation-token", [""])[0]
        rows = {}
        for key in keys():
            if key.startswith(prefix):
                rest = key[len(prefix):].partition("/")
                rows.setdefault(prefix + rest[0] + rest[1], rest[1] == "/")
        names = [name for name in rows if name > after]
        page = names[:min(PAGE, int(query.get("max-keys", ["1000"])[0]))]
        xml = "<ListBucketResult>"
        for name in page:
            if rows[name]:
                xml += f"<CommonPrefixes><Prefix>{escape(name)}</Prefix></CommonPrefixes>"
                continue
            attributes, tag = self.describe(os.path.join(FOLDER, name))
            date = time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime(attributes.st_mtime))
            xml += (f"<Contents><Key>{escape(name)}</Key><LastModified>{date}</LastModified><ETag>{escape(tag)}</ETag>"
                    f"<Size>{attributes.st_size}</Size></Contents>")
        if len(page) < len(names):
            xml += f"<IsTruncated>true</IsTruncated><NextContinuationToken>{escape(page[-1])}</NextContinuationToken>"
        return self.reply(200, (xml + "</ListBucketResult>").encode())

    def describe(self, path):
        with open(path, "rb") as file:
            return os.stat(path), '"' + hashlib.md5(file.read()).hexdigest() + '"'

    def send_object(self, path):
        if not os.path.isfile(path):
            return self.reply(404)
        attributes, tag = self.describe(path)
        if self.headers.get("If-Match") not in (None, tag):
            return self.reply(412)
        date = email.utils.formatdate(int(attributes.st_mtime), usegmt=True)
        with open(path, "rb") as file:
            content = file.read()
        wanted = self.headers.get("Range")
        if not wanted:
            return self.reply(200, content, ETag=tag, Last_Modified=date)
        first, last = (int(number) for number in wanted.removeprefix("bytes=").split("-"))
        body = content[first:last + 1]
        place = f"bytes {first}-{first + len(body) - 1}/{len(content)}"
        return self.reply(206, body, ETag=tag, Last_Modified=date, Content_Range=place)


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request, client_address):
        pass  # clients that go away


server = Server(("127.0.0.1", 0), Handler)
print(server.server_address[1], flush=True)
server.serve_forever()
