#!/usr/bin/env python3
"""An NBD server on a unix socket that lists any names, also such as no good server has.

Usage: odd_nbd_server.py SOCKET LISTED SERVED

LISTED and SERVED are JSON lists of names, in which each character is a byte (latin-1). It lists the first, in their
order, and serves the second, read-only: each has its own name, 100 times over, as its bytes.
"""

import json
import os
import socket
import struct
import sys
import threading

MAGIC = b"NBDMAGIC" + b"IHAVEOPT"
OPT_EXPORT_NAME, OPT_ABORT, OPT_LIST, OPT_INFO, OPT_GO = 1, 2, 3, 6, 7
REP_ACK, REP_SERVER, REP_INFO = 1, 2, 3
REP_ERR_UNSUP, REP_ERR_UNKNOWN = 0x80000001, 0x80000006
READ_ONLY = 0x3  # has flags, read-only


def receive(connection, length):
    data = b""
    while len(data) < length:
        part = connection.recv(length - len(data))
        if not part:
            raise EOFError
        data += part
    return data


def reply(connection, option, kind, data=b""):
    connection.sendall(struct.pack(">QIII", 0x3E889045565A9, option, kind, len(data)) + data)


def content_of(name):
    return (name or b"nameless") * 100


def transmit(connection, content):
    while True:
        _, _, command, cookie, offset, length = struct.unpack(">IHHQQI", receive(connection, 28))
        if command == 2:
            return
        good = command == 0 and offset + length <= len(content)
        connection.sendall(struct.pack(">IIQ", 0x67446698, 0 if good else 22, cookie))
        if good:
            connection.sendall(content[offset:offset + length])


def negotiate(connection, listed, served):
    """Returns the content that was chosen, or None."""
    connection.sendall(MAGIC + struct.pack(">H", 3))
    receive(connection, 4)
    while True:
        _, option, length = struct.unpack(">QII", receive(connection, 16))
        data = receive(connection, length)
        if option == OPT_LIST:
            for name in listed:
                reply(connection, option, REP_SERVER, struct.pack(">I", len(name)) + name)
            reply(connection, option, REP_ACK)
        elif option in (OPT_INFO, OPT_GO):
            name = data[4:4 + struct.unpack(">I", data[:4])[0]]
            if name not in served:
                reply(connection, option, REP_ERR_UNKNOWN)
                continue
            content = content_of(name)
            reply(connection, option, REP_INFO, struct.pack(">HQH", 0, len(content), READ_ONLY))
            reply(connection, option, REP_ACK)
            if option == OPT_GO:
                return content
        elif option == OPT_ABORT:
            reply(connection, option, REP_ACK)
            return None
        else:
            reply(connection, option, REP_ERR_UNSUP)


def serve(connection, listed, served):
    try:
        content = negotiate(connection, listed, served)
        if content is not None:
            transmit(connection, content)
    except (EOFError, OSError):
        pass
    connection.close()


def main():
    path = sys.argv[1]
    listed, served = ([name.encode("latin-1") for name in json.loads(text)] for text in sys.argv[2:4])
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path + ".new")
        listener.listen(16)
        os.rename(path + ".new", path)
        while True:
            connection, _ = listener.accept()
            threading.Thread(target=serve, args=(connection, listed, served), daemon=True).start()


main()
