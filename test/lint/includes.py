#!/usr/bin/env python3
"""The floor plan, checked on the include lines.

server/ > fusefs/ blockdev/ net/ > store/tree/ > store/volume/ > store/page/ > base/: an include never points up or
sideways, impl/ is for its own folder and that folder's unit tests, third parties stay out of public headers, and what
proto/ generates is seen by net/ and server/ alone. Usage: includes.py [ROOT]
"""

import os
import re
import sys

from source_tree import (FOLDERS, Report, code_only, is_public_header, read, room_of,
                         root_from_arguments, sources)

FLOOR = {"base": 0, "store/page": 1, "store/volume": 2, "store/tree": 3, "fusefs": 4, "blockdev": 4, "net": 4,
         "server": 5, "server/ctl": 6}

INCLUDE = re.compile(r'^\s*#\s*include\s*(?:"([^"]+)"|<([^>]+)>)', re.MULTILINE)

# Headers of third parties that a public header may show: Abseil is the base library.
THIRD_PARTY = re.compile(
    r"^(fuse\.h|fuse3/|fuse_|libnbd|liburing|grpc|google/protobuf|toml|sqlite3|spdlog|prometheus|curl/|hiredis"
    r"|openssl/|isa-l|crc|CLI/|nlohmann/|fmt/|doctest|benchmark)")
# Their names, in code: not what merely begins like them, such as our own nbd_server.h.
THIRD_PARTY_NAMES = [
    (re.compile(r"\bfuse_[a-z]\w*"), "a name of libfuse"),
    (re.compile(r"\bnbd_(handle|aio_|pread|pwrite|connect|create|close|get_)\w*"), "a name of libnbd"),
    (re.compile(r"\bio_uring\w*"), "a name of liburing"),
    (re.compile(r"\bgrpc::\w+"), "a name of gRPC"),
    (re.compile(r"\bgoogle::protobuf\b"), "a name of Protobuf"),
    (re.compile(r"\btoml::"), "a name of toml++"),
    (re.compile(r"\bsqlite3\w*"), "a name of SQLite"),
    (re.compile(r"\b(spdlog|fmt|CLI|nlohmann|prometheus)::"), "a name of a third party"),
    (re.compile(r"\b(CURL|redisContext|EVP_MD|SSL_CTX|SSL)\b"), "a name of a third party"),
]
# Where services and channels are handed from room to room, as forward declarations.
GRPC_FORWARD = {
    "net/rpc_server.h": {"grpc::Service"},
    "net/rpc_client.h": {"grpc::ChannelInterface"},
    "server/admin_service.h": {"grpc::Service"},
}
GENERATED = re.compile(r"(^|/)\w+\.(grpc\.)?pb\.h$")


def tested_room(path):
    """The room that a file under test/ or bench/ mirrors."""
    for prefix in ("test/fuzz/", "test/", "bench/"):
        if path.startswith(prefix):
            return room_of(path[len(prefix):])
    return None


def may_see_generated(path):
    if path.startswith(("test/", "bench/")):
        return tested_room(path) in ("net", "server", "server/ctl")
    return room_of(path) in ("net", "server", "server/ctl") and not is_public_header(path)


def check_own_include(report, path, line, target):
    """An include of one of our own headers."""
    user, used = room_of(path), room_of(target)
    in_test = path.startswith(("test/", "bench/"))
    if used is None:
        if target.startswith("test/") and not path.startswith("test/"):
            report.add(path, line, f"{target}: nobody includes a test")
        return
    if "/impl/" in target:
        owner = tested_room(path) if path.startswith("test/") else user
        if owner != used:
            report.add(path, line, f"{target}: impl/ is private to {used} and its unit tests")
    if in_test or user == used:
        return
    if FLOOR[used] > FLOOR[user]:
        report.add(path, line, f"{target}: {user} is below {used}; an include never points up")
    elif FLOOR[used] == FLOOR[user]:
        report.add(path, line, f"{target}: {user} and {used} are on one floor; an include never points sideways")


def check_include(report, root, path, line, quoted, angled):
    target = quoted or angled
    if GENERATED.search(target):
        if not may_see_generated(path):
            report.add(path, line, f"{target}: generated code is for .cc files and impl/ of net and server")
        return
    if is_public_header(path) and THIRD_PARTY.match(target):
        report.add(path, line, f"{target}: a third party's header in a public header")
    if quoted and target.split("/")[0] in FOLDERS:
        if not os.path.exists(os.path.join(root, target)):
            report.add(path, line, f"{target}: no such file (paths are from the root)")
        check_own_include(report, path, line, target)
    elif quoted and not target.startswith("absl/"):
        report.add(path, line, f"{target}: paths are from the root, and other people's headers in <>")


def check_names(report, path, code):
    for number, text in enumerate(code.split("\n"), 1):
        if text.lstrip().startswith("#"):
            continue
        for pattern, whose in THIRD_PARTY_NAMES:
            for match in pattern.finditer(text):
                name = match.group(0)
                if name not in GRPC_FORWARD.get(path, ()):
                    report.add(path, number, f"{name}: {whose} in a public header")


def main():
    root = root_from_arguments()
    report = Report()
    files = sources(root)
    for path in files:
        code = code_only(read(root, path))
        for match in INCLUDE.finditer(code):
            line = code.count("\n", 0, match.start(match.lastindex)) + 1
            check_include(report, root, path, line, match.group(1), match.group(2))
        if is_public_header(path):
            check_names(report, path, code)
            if not code.lstrip().startswith("#pragma once"):
                report.add(path, 1, "a header begins with #pragma once")
    return report.finish(len(files))


if __name__ == "__main__":
    sys.exit(main())
