#!/usr/bin/env python3
"""An HTTP server for tests, which serves one folder rightly, and wrongly in ways that it is told.

http_faults.py ROOT MODE LOG [CERTIFICATE KEY]: prints its port. The file MODE says what it does from the next request
on: words, of which the first may be NUMBER: to say how many GETs of files are concerned (then it is right again). Each
request is a line in LOG: METHOD PATH RANGE AUTHORIZATION X-SECRET, with - for what is absent.
"""

import email.utils
import hashlib
import http.server
import os
import ssl
import sys
import threading
import time
import urllib.parse

ROOT, MODE, LOG = sys.argv[1:4]
lock = threading.Lock()
used = {}


def mode_for(is_counted):
    """What MODE says now, as words; a number of requests is counted down."""
    try:
        with open(MODE, encoding="utf-8") as file:
            text = file.read().strip()
    except FileNotFoundError:
        return ["ok"]
    words = text.split() or ["ok"]
    if not words[0].endswith(":"):
        return words
    if not is_counted:
        return ["ok"]
    with lock:
        used[text] = used.get(text, 0) + 1
        return words[1:] if used[text] <= int(words[0][:-1]) else ["ok"]


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def note(self):
        with lock, open(LOG, "a", encoding="utf-8") as log:
            log.write(" ".join((self.command, self.path, self.headers.get("Range", "-"),
                                self.headers.get("Authorization", "-").replace(" ", "_"),
                                self.headers.get("X-Secret", "-"))) + "\n")

    def do_HEAD(self):
        self.answer()

    def do_GET(self):
        self.answer()

    def plain(self, status, *headers):
        self.send_response(status)
        for name, value in headers:
            self.send_header(name, value)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def answer(self):
        self.note()
        is_get = self.command == "GET"
        self.mode = mode_for(is_get and self.headers.get("Range") != "bytes=0-0")
        kind, rest = self.mode[0], self.mode[1:]
        path = os.path.join(ROOT, urllib.parse.unquote(self.path.split("?")[0]).lstrip("/"))
        if kind == "status" and (is_get or "all" in rest):
            extra = [("Retry-After", rest[1])] if len(rest) > 1 and rest[1] != "all" else []
            return self.plain(int(rest[0]), *extra)
        if kind == "nohead" and not is_get:
            return self.plain(405)
        if kind == "circle":
            return self.plain(302, ("Location", "/b" if self.path == "/a" else "/a"))
        if kind == "far":
            number = int(self.path.rsplit("-", 1)[1]) + 1 if "-" in self.path else 1
            return self.plain(302, ("Location", f"/x-{number}"))
        if kind == "redirect":
            return self.plain(307, ("Location", rest[0] + self.path))
        if kind == "hang" and is_get:
            time.sleep(30)
            self.close_connection = True
            return None
        if not os.path.isfile(path):
            return self.plain(404)
        with open(path, "rb") as file:
            self.send_file(file.read(), os.stat(path))
        return None

    def validators(self, content, attributes):
        kind = self.mode[0]
        tag = '"' + hashlib.md5(content).hexdigest() + '"'
        date = email.utils.formatdate(int(attributes.st_mtime), usegmt=True)
        if kind in ("noetag", "norange-noetag"):
            return None, date
        if kind == "weak":
            return "W/" + tag, date
        return tag, date

    def send_file(self, content, attributes):
        kind = self.mode[0]
        tag, date = self.validators(content, attributes)
        wanted = self.headers.get("Range")
        if kind == "careless":  # knows no conditions
            pass
        elif self.headers.get("If-Match") not in (None, tag):
            return self.plain(412)
        elif self.headers.get("If-Range") not in (None, tag, date):
            wanted = None
        if kind.startswith("norange"):
            wanted = None
        first, last = 0, len(content) - 1
        if wanted:
            begin, end = wanted.removeprefix("bytes=").split("-")
            first, last = int(begin), min(int(end), last)
            if first > last:
                return self.plain(416, ("Content-Range", f"bytes */{len(content)}"))
        body = content[first:last + 1]
        self.send_response(206 if wanted else 200)
        if tag:
            self.send_header("ETag", tag)
        self.send_header("Last-Modified", date)
        if kind == "gzip":
            self.send_header("Content-Encoding", "gzip")
        shift = 4096 if kind == "wrongrange" and self.command == "GET" else 0
        total = len(content) + (1 if kind == "wrongtotal" and self.command == "GET" else 0)
        if wanted and kind != "barepart":
            self.send_header("Content-Range", f"bytes {first + shift}-{last + shift}/{total}")
        if kind == "nolength" and self.command == "GET":
            self.close_connection = True
            self.send_header("Connection", "close")
            body += b"beyond" if "long" in self.mode else b""
        else:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "GET":
            self.send_body(body)
        return None

    def send_body(self, body):
        kind = self.mode[0]
        if kind == "truncate" or (kind == "nolength" and "short" in self.mode):
            self.wfile.write(body[:min(int(self.mode[-1]), len(body) - 1)])
            self.close_connection = True
        elif kind == "drip":
            for byte in body:
                self.wfile.write(bytes((byte,)))
                self.wfile.flush()
                time.sleep(0.1)
        else:
            self.wfile.write(body)


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request, client_address):
        pass  # clients that go away


server = Server(("127.0.0.1", 0), Handler)
if len(sys.argv) > 4:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(sys.argv[4], sys.argv[5])
    server.socket = context.wrap_socket(server.socket, server_side=True)
print(server.server_address[1], flush=True)
server.serve_forever()
