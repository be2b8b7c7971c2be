#!/usr/bin/env python3
"""The lint checks, checked: each passes a small good tree and refuses a bad one, for the right reason."""

import os
import re
import shutil
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))

GOOD = {
    "base/hex.h": "#pragma once\n\n#include <string>\n\nstd::string to_hex(int value);\n",
    "store/page/object.h": '#pragma once\n\n#include "absl/status/status.h"\n#include "base/hex.h"\n',
    "store/page/object.cc": '#include "store/page/object.h"\n\n#include <liburing.h>\n\n'
                            '#include "store/page/impl/ring.h"\n',
    "store/page/impl/ring.h": "#pragma once\n\n#include <liburing.h>\n\nstruct Ring {\n  io_uring ring;\n};\n",
    "store/tree/namespace.h": '#pragma once\n\n#include "store/page/object.h"\n'
    "// fuse_reply_err and sqlite3 in words.\n",
    "fusefs/mount.h": '#pragma once\n\n#include "store/tree/namespace.h"\n',
    "blockdev/nbd_server.h": '#pragma once\n\n#include "store/tree/namespace.h"\n',
    "net/rpc_server.h": "#pragma once\n\nnamespace grpc {\nclass Service;\n}  // namespace grpc\n"
                        "void host(grpc::Service& service);\n",
    "net/data_service.cc": '#include <grpcpp/grpcpp.h>\n\n#include "blobcache.grpc.pb.h"\n',
    "server/daemon.cc": '#include "blockdev/nbd_server.h"\n#include "fusefs/mount.h"\n#include "net/rpc_server.h"\n',
    "server/ctl/main.cc": '#include "server/daemon.h"\n',
    "server/daemon.h": "#pragma once\n",
    "test/store/page/ring_test.cc": '#include "store/page/impl/ring.h"\n\n#include <doctest/doctest.h>\n',
    "tools/hello": "#!/bin/bash\necho hello\n",
    "man/x.1": ".Dd November 1, 2026\n.Dt X 1\n.Os\n.Sh NAME\n.Nm x\n.Nd does nothing\n"
    ".Sh DESCRIPTION\n.Nm\ndoes nothing.\n",
}

LONG_FILE = "".join(f"int f{number}();\n" for number in range(501))

# check, a file that differs from the good tree, its text, and what the check must say about it.
BAD = [
    ("includes.py", "base/hex.cc", '#include "store/page/object.h"\n', r"base/hex\.cc:1: .*never points up"),
    ("includes.py", "store/page/source.h", '#pragma once\n\n#include "store/tree/namespace.h"\n', "never points up"),
    ("includes.py", "store/tree/x.cc", '#include "net/rpc_server.h"\n', "never points up"),
    ("includes.py", "store/volume/x.cc", '#include "store/tree/namespace.h"\n', "never points up"),
    ("includes.py", "fusefs/x.cc", '#include "blockdev/nbd_server.h"\n', "never points sideways"),
    ("includes.py", "blockdev/impl/x.h", '#pragma once\n\n#include "net/rpc_server.h"\n', "never points sideways"),
    ("includes.py", "server/x.cc", '#include "server/ctl/x.h"\n', "never points up"),
    ("includes.py", "store/tree/x.cc", '#include "store/page/impl/ring.h"\n', "impl/ is private"),
    ("includes.py", "test/store/tree/x_test.cc", '#include "store/page/impl/ring.h"\n', "impl/ is private"),
    ("includes.py", "bench/store/page/x_bench.cc", '#include "store/page/impl/ring.h"\n', "impl/ is private"),
    ("includes.py", "store/page/x.h", "#pragma once\n\n#include <liburing.h>\n", "third party's header"),
    ("includes.py", "store/page/x.h", "#pragma once\n\nstruct io_uring;\n", "liburing in a public header"),
    ("includes.py", "store/tree/x.h", "#pragma once\n\nstruct sqlite3;\n", "SQLite in a public header"),
    ("includes.py", "fusefs/x.h", "#pragma once\n\nvoid f(struct fuse_session* s);\n", "libfuse in a public"),
    ("includes.py", "blockdev/x.h", "#pragma once\n\nvoid f(struct nbd_handle* h);\n", "libnbd in a public"),
    ("includes.py", "server/x.h", "#pragma once\n\nvoid f(toml::table& t);\n", r"toml\+\+ in a public"),
    ("includes.py", "net/x.h", "#pragma once\n\nvoid f(grpc::Service& s);\n", "gRPC in a public"),
    ("includes.py", "net/rpc_server.h", "#pragma once\n\nvoid f(grpc::Server& s);\n", "gRPC in a public"),
    ("includes.py", "net/x.h", '#pragma once\n\n#include "blobcache.pb.h"\n', "generated code"),
    ("includes.py", "fusefs/x.cc", '#include "blobcache.grpc.pb.h"\n', "generated code"),
    ("includes.py", "base/x.cc", '#include "base/nothing.h"\n', "no such file"),
    ("includes.py", "base/x.cc", '#include "hex.h"\n', "paths are from the root"),
    ("includes.py", "base/x.h", "struct X {};\n", "pragma once"),
    ("includes.py", "base/x.cc", '#include "test/helper.h"\n', "nobody includes a test"),
    ("style.py", "base/x.cc", LONG_FILE, "501 lines"),
    ("style.py", "base/x.cc", "int x;" + " " * 95 + "// y\n", "105 columns"),
    ("style.py", "base/x.cc", "int x;  // TO" "DO: later\n", "do it"),
    ("style.py", "base/x.cc", "absl::CondVar changed;\n", "does not tell the sanitizer"),
    ("style.py", "docs/x.md", "FIX" "ME\n", "do it"),
    ("style.py", "base/x.cc", "int x; \n", "blanks at the end"),
    ("style.py", "base/x.cc", "int x;", "does not end"),
    ("style.py", "base/x.cc", "using namespace std;\n", "all of a namespace's names"),
    ("format", "base/x.cc", "int   x ;\n", "base/x.cc: not formatted"),
    ("scripts", "tools/bad", "#!/bin/bash\necho $1\n", "SC2086"),
    ("scripts", "tools/plain", "#!/bin/bash\necho hello\n", "chmod"),
    ("man", "man/x.1", ".Sh NAME\n.Nx oops\n", "missing"),
]

# clang-tidy and clang's own warnings, over one file each: text and the check that must refuse it.
BAD_CODE = [
    ("struct bad_name {};\n", "readability-identifier-naming"),
    ("struct Good {\n  int twice(int x) { return 2 * x + own; }\n\n private:\n  int own = 0;\n};\n",
     "readability-identifier-naming"),
    ("constexpr int answer = 42;\n", "readability-identifier-naming"),
    ("int GoodFunction() { return 1; }\n", "readability-identifier-naming"),
    ("int* f() { return new int(3); }\n", "cppcoreguidelines-owning-memory"),
    ("int* f() { return 0; }\n", "zero-as-null-pointer-constant"),
    ("struct A {\n  virtual ~A() = default;\n  virtual void f() {}\n};\nstruct B : A {\n  void f() {}\n};\n",
     "suggest-override"),
    ("int f(int x) {\n" + "  x += 1;\n" * 71 + "  return x;\n}\n", "readability-function-size"),
    ("#include <string>\nstd::string f(std::string s) {\n  std::string t = std::move(s);\n  return s + t;\n}\n",
     "bugprone-use-after-move"),
    ('#include "absl/synchronization/mutex.h"\nclass Counter {\n public:\n  void add() { ++count_; }\n\n private:\n'
     "  absl::Mutex mutex_;\n  int count_ ABSL_GUARDED_BY(mutex_) = 0;\n};\n", "thread-safety"),
]
GOOD_CODE = '#include "absl/synchronization/mutex.h"\nclass Counter {\n public:\n  void add() {\n' \
            "    const absl::MutexLock lock(&mutex_);\n    ++count_;\n  }\n\n private:\n  absl::Mutex mutex_;\n" \
            "  int count_ ABSL_GUARDED_BY(mutex_) = 0;\n};\n"


def write(root, path, text):
    full = os.path.join(root, path)
    os.makedirs(os.path.dirname(full), exist_ok=True)
    with open(full, "w", encoding="utf-8") as file:
        file.write(text)


def run(command):
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    return done.returncode, done.stdout


def good_tree(folder):
    root = os.path.join(folder, "tree")
    shutil.rmtree(root, ignore_errors=True)
    for path, text in GOOD.items():
        write(root, path, text)
    os.chmod(os.path.join(root, "tools/hello"), 0o755)
    os.makedirs(os.path.join(root, ".ci"))
    for folder_of_sources in ("test", "bench"):
        os.makedirs(os.path.join(root, folder_of_sources), exist_ok=True)
    for name in (".clang-format", ".clang-tidy"):
        shutil.copy(os.path.join(ROOT, name), root)
    return root


def check_trees(folder, problems):
    for check in ("includes.py", "style.py", "format", "scripts", "man"):
        status, output = run([os.path.join(HERE, check), good_tree(folder)])
        if status != 0:
            problems.append(f"{check} refuses the good tree:\n{output}")
    for check, path, text, expected in BAD:
        root = good_tree(folder)
        write(root, path, text)
        status, output = run([os.path.join(HERE, check), root])
        if status == 0 or not re.search(expected, output):
            problems.append(f"{check} on a bad {path}: status {status}, and not /{expected}/ in\n{output}")


def tidy(root, text):
    write(root, "base/code.cc", text)
    return run(["clang-tidy-19", "-quiet", os.path.join(root, "base/code.cc"), "--", "-std=c++20", "-Wall",
                "-Werror", "-Wthread-safety", "-Wzero-as-null-pointer-constant", "-Wsuggest-override"])


def check_tidy(folder, problems):
    root = good_tree(folder)
    status, output = tidy(root, GOOD_CODE)
    if status != 0:
        problems.append(f"clang-tidy refuses good code:\n{output}")
    for text, expected in BAD_CODE:
        status, output = tidy(root, text)
        if status == 0 or expected not in output:
            problems.append(f"clang-tidy, status {status}, does not say {expected} about\n{text}\nbut\n{output}")


def main():
    problems = []
    with tempfile.TemporaryDirectory() as folder:
        check_trees(folder, problems)
        check_tidy(folder, problems)
    for problem in problems:
        print(problem)
    print(f"{len(BAD) + len(BAD_CODE)} bad inputs, {len(problems)} problems")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
